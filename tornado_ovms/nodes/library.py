"""Opens libraries of custom nodes by what the configuration says: a file of the C interface, a class in Python, or a built-in.

Loader thread.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.nodes.builtin import BUILTIN
from tornado_ovms.nodes.clib import CLibrary
from tornado_ovms.nodes.python import PythonLibrary

if TYPE_CHECKING:
    from tornado_ovms.nodes.base import Library

log = logging.getLogger("modelmanager")

PREFIX: Final = "builtin:"

_SHIPPED = re.compile(r"libcustom_node_(\w+)\.so")


def open_library(base_path: str) -> Library:
    """The library that ``base_path`` of an entry means.

    ``builtin:NAME`` is a node that comes with the server; a name with a colon is a class in Python, unless it ends in
    ``.so``; all else is a file of the C interface. If the file is not there and has the name of one that the reference
    ships, the built-in node takes its place.

    Raises:
        Failure: PIPELINE_LIBRARY.
    """
    if base_path.startswith(PREFIX):
        return _builtin(base_path.removeprefix(PREFIX))
    if ":" in base_path and not base_path.endswith(".so"):
        return PythonLibrary(base_path)
    path = Path(base_path)
    if ".." in path.parts:
        raise Failure(Code.PIPELINE_LIBRARY, f"Path {base_path} escape with .. is forbidden.")
    shipped = _SHIPPED.fullmatch(path.name)
    if shipped is not None and shipped[1] in BUILTIN and not path.exists():
        log.info("%s is not there: the built-in node %s takes its place", base_path, shipped[1])
        return _builtin(shipped[1])
    return CLibrary(base_path)


def _builtin(name: str) -> Library:
    if name not in BUILTIN:
        raise Failure(Code.PIPELINE_LIBRARY, f"builtin: Expected: one of {', '.join(BUILTIN)}; Actual: {name}")
    return PythonLibrary(BUILTIN[name])
