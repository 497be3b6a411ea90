"""Checks a configuration document against ``config.schema.json``, and says what is wrong in words.

The schema ships with the package, and editors may use it as it stands. Two rules of the reference go beyond it:
integers have neither point nor exponent, and where one key is allowed a doubled one counts twice. Any thread.
"""

from __future__ import annotations

import functools
import json
from difflib import get_close_matches
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado_ovms.core.strict_json import Members, describe, escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

_TYPES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}


class SchemaFault(NamedTuple):
    """One place of a document that is not as it should be; ``pointer`` is a JSON pointer (RFC 6901) to it."""

    pointer: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.pointer or 'the document'}: expected {self.expected}, found {self.found}"


@functools.cache
def schema_text() -> str:
    """The JSON Schema of the configuration file."""
    return resources.files(__package__).joinpath("config.schema.json").read_text("utf-8")


def find_faults(document: Any) -> Iterator[SchemaFault]:
    """What is wrong with a document that ``strict_json`` has read, one after the other."""
    for error in _validator().iter_errors(document):
        pointer = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        yield SchemaFault(pointer, _expected(error), describe(error.instance))


@functools.cache
def _validator() -> Validator:
    import jsonschema  # noqa: PLC0415 - takes a while, and a single model on the command line needs none of it

    draft = jsonschema.Draft202012Validator
    keywords = {"required": _required, "additionalProperties": _additional_properties, "maxProperties": _max_properties}
    types = draft.TYPE_CHECKER.redefine("integer", _is_integer)
    checker = jsonschema.validators.extend(draft, keywords, type_checker=types)  # type: ignore[no-untyped-call]
    validator: Validator = checker(json.loads(schema_text()))
    return validator


def _is_integer(_: Any, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _expected(error: ValidationError) -> str:
    """What a keyword of the schema asks for."""
    keyword: Any = error.validator
    value: Any = error.validator_value
    match keyword:
        case "type":
            expected = " or ".join(_TYPES[name] for name in ([value] if isinstance(value, str) else value))
        case "enum":
            expected = f"one of {', '.join(map(describe, value))}"
        case "minimum":
            expected = f"at least {value}"
        case "maximum":
            expected = f"at most {value}"
        case "minProperties" | "maxProperties":
            expected = _count(error.schema)
        case "not":  # a key of another type of node; of a property that is false jsonschema does not tell the place
            expected = "no such key here"
        case _:  # one of the functions below has said it
            expected = error.message
    return expected


def _count(schema: Any) -> str:
    """The number of keys, where the schema limits it: none, or one."""
    if schema["maxProperties"] == 0:
        return "an empty object"
    known = ", ".join(schema.get("properties", ()))
    return f"exactly one of the keys {known}" if known else "exactly one key"


def _required(_: Any, names: list[str], instance: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield _error(f"the key {name}")


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known = schema.get("properties", {})
    for name in instance:
        if name in known:
            continue
        if allowed is not False:
            yield from validator.descend(instance[name], allowed, path=name)
        else:
            close = get_close_matches(name, known, 1)
            wanted = f"the key {close[0]}" if close else f"one of the keys {', '.join(known)}"
            yield _error(wanted, path=(name,), instance=name)


def _max_properties(_: Any, most: int, instance: Any, schema: Any) -> Iterator[ValidationError]:
    has_unknown = isinstance(instance, dict) and instance.keys() - schema.get("properties", instance)  # told already
    if isinstance(instance, Members) and len(instance.names) > most and not has_unknown:
        yield _error("")


def _error(message: str, **where: Any) -> ValidationError:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - see above

    return ValidationError(message, **where)
