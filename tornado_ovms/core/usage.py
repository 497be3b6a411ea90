"""The text of ``--help``, made from the table of options. Any thread."""

from __future__ import annotations

import textwrap
from typing import Final

from tornado_ovms.core.options import TABLE, Kind, Option

WIDTH: Final = 100
_INDENT: Final = " " * 8
_VALUES: Final = {Kind.FLAG: "", Kind.TEXT: " TEXT", Kind.U32: " NUMBER", Kind.U64: " NUMBER"}

_HEAD: Final = """\
tornado-ovms serves OpenVINO models over the TensorFlow Serving REST API, as OpenVINO Model Server does.

Usage:
  tornado-ovms --demo
  tornado-ovms --rest_port PORT --model_name NAME --model_path FOLDER [options of the model] [options]
  tornado-ovms --rest_port PORT --config_path FILE [options]
  tornado-ovms --list_models --model_repository_path FOLDER
  tornado-ovms --add_to_config --config_path FILE --model_name NAME --model_path FOLDER
  tornado-ovms --remove_from_config --config_path FILE --model_name NAME

Values: --name VALUE or --name=VALUE; a flag takes true or false, behind = only. Names may have dashes for
underscores. Of an option that is given twice the last one counts. Defaults are in square brackets.
"""


def help_text() -> str:
    """All options by group, each with what it takes, what it does and its default."""
    parts = [_HEAD]
    for group, options in TABLE.items():
        parts.append("\n".join([f"{group.value}:", *map(_entry, options), ""]))
    return "\n".join(parts)


def default_text(option: Option) -> str:
    """The default of an option in words; empty if there is none.

    >>> default_text(Option("stateful", Kind.FLAG, "", default=False))
    'false'
    """
    if option.shown:
        return option.shown
    if isinstance(option.default, bool):
        return str(option.default).lower()
    return "" if option.default is None else str(option.default)


def _entry(option: Option) -> str:
    value = f" {'|'.join(option.choices)}" if option.choices else _VALUES[option.kind]
    default = default_text(option)
    text = f"{option.help} [{default}]" if default else option.help
    return f"  --{option.name}{value}\n{textwrap.fill(text, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)}"
