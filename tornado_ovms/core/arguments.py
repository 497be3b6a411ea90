"""The words of a command line, read against the table of options.

The grammar is that of the library cxxopts, which the reference uses, and not argparse's: flags take a value only behind
``=``, other options take the next word whatever it looks like, names are never shortened, unknown words are collected.
Dashes in names are as good as underscores (ours). Any thread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.options import OPTIONS, TASK_OPTIONS, Kind, Option, Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONG = re.compile(r"--([A-Za-z0-9][A-Za-z0-9_-]+)(?:=(.*))?", re.DOTALL)
_SHORT = re.compile(r"-([A-Za-z0-9]+)")
_FLAG = re.compile(r"(?P<true>[tT](rue)?|1)|[fF](alse)?|0")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")

_MOST: Final = {Kind.U32: 2**32 - 1, Kind.U64: 2**64 - 1}

_DIGITS: Final = 40
"""More digits than any number that fits; Python refuses to read thousands of them."""

HINT: Final = "tornado-ovms --help lists the options"


class UsageError(Exception):
    """The command line cannot be used: the process ends with exit code 64.

    The first line of its text is the reference's sentence, a second one (ours) says what to do.
    """

    def __init__(self, sentence: str, hint: str = "") -> None:
        super().__init__(f"{sentence}\n{hint}" if hint else sentence)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a command line says: the options that are given, by name with underscores."""

    given: Mapping[str, Value]

    def has(self, name: str) -> bool:
        """Whether the option is given, and not as an empty text: the reference takes that for absence."""
        return self.given.get(name, "") != ""

    def text(self, name: str) -> str:
        """The value of a text option, or its default; empty if there is neither."""
        return str(self.given.get(name, OPTIONS[name].default) or "")

    def number(self, name: str) -> int:
        """The value of a number option, or its default; 0 if there is neither."""
        return int(self.given.get(name, OPTIONS[name].default) or 0)

    def flag(self, name: str) -> bool:
        """The value of a flag, or its default."""
        return bool(self.given.get(name, OPTIONS[name].default))


def parse(words: Sequence[str]) -> Arguments:
    """Read the words of a command line, without the program's name.

    Raises:
        UsageError: a value is missing or cannot be read, or words are unknown.
    """
    given, unmatched = _match(words, OPTIONS)
    if "task" in given:
        more, unmatched = _match(unmatched, TASK_OPTIONS)
        given |= more
    if unmatched:
        listed = "".join(f"{word}, " for word in unmatched)
        raise UsageError(f"error parsing options - unmatched arguments: {listed}", _suggest(unmatched))
    return Arguments(given)


def _match(words: Sequence[str], options: Mapping[str, Option]) -> tuple[dict[str, Value], list[str]]:
    """The options among the words, and all other words."""
    given: dict[str, Value] = {}
    unmatched: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            unmatched.extend(rest)
        elif found := _LONG.fullmatch(word):
            name = found[1].replace("-", "_")
            if name in options:
                value = found[2]
                if value is None:
                    value = "true" if options[name].kind is Kind.FLAG else next(rest, None)
                given[name] = _read(options[name], value)
            else:
                unmatched.append(word)
        elif found := _SHORT.fullmatch(word):
            # Letters stand for an option each; help is the only one that has a letter.
            if "h" in found[1] and "help" in options:
                given["help"] = True
            unmatched.extend(f"-{letter}" for letter in found[1] if letter != "h" or "help" not in options)
        else:
            unmatched.append(word)
    return given, unmatched


def _read(option: Option, text: str | None) -> Value:
    """The value of an option; None is the end of the command line."""
    hint = f"--{option.name} takes {_wanted(option)}; {HINT}"
    if text is None:
        raise UsageError(f"error parsing options: Option {_quote(option.name)} is missing an argument", hint)
    if option.kind is Kind.TEXT:
        return text
    if option.kind is Kind.FLAG:
        if found := _FLAG.fullmatch(text):
            return found["true"] is not None
    elif _NUMBER.fullmatch(text) and len(text) <= _DIGITS:
        number = int(text, 16 if text.startswith("0x") else 10)
        if number <= _MOST[option.kind]:
            return number
    raise UsageError(f"error parsing options: Argument {_quote(text)} failed to parse", hint)


def _quote(text: str) -> str:
    """The text between quotation marks, of the kind that cxxopts uses."""
    return f"\N{LEFT SINGLE QUOTATION MARK}{text}\N{RIGHT SINGLE QUOTATION MARK}"


def _wanted(option: Option) -> str:
    if option.kind is Kind.TEXT:
        return "a text"
    if option.kind is Kind.FLAG:
        return "true or false, behind an equals sign"
    return f"a number from 0 to {_MOST[option.kind]}, decimal or 0x…"


def _suggest(unmatched: Sequence[str]) -> str:
    """What to do about words that nobody knows."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistyped command line has to wait for it

    if any(word.lower() in ("true", "false") for word in unmatched):
        return f"the value of a flag follows an equals sign, as in --metrics_enable=true. {HINT}"
    spelt = [word.partition("=")[0].lstrip("-").replace("-", "_") for word in unmatched]
    close = dict.fromkeys(f"--{name}" for word in spelt for name in get_close_matches(word, OPTIONS, 1))
    return f"did you mean {', '.join(close)}? {HINT}" if close else HINT
