"""What the command line does besides serving: list the models of a repository, edit a configuration file.

Each function does its work, tells a person about it and returns the exit code; main thread. Behaviour and sentences are
the reference's: ``src/config_export_module/config_export.cpp``, ``src/servables_config_manager_module/listmodels.cpp``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tornado_ovms.core.config_schema import find_faults
from tornado_ovms.core.model_files import find_model_files
from tornado_ovms.core.status import TABLE, Code
from tornado_ovms.core.strict_json import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Edit = Callable[[list[Any]], None]

GRAPH_FILE: Final = "graph.pbtxt"

_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)


class _EditError(Exception):
    """Why a configuration file was not changed."""


def list_models(repository: str) -> int:
    """Print the models below a folder, one a line, by their path from there."""
    print("Listing models in repository...")
    print(f"Model repository path: {repository}")
    root = Path(repository)
    if not root.is_dir():
        print(f"{repository} is not a folder", file=sys.stderr)
        return 0
    for path in sorted(_servables(root)):
        print(path.relative_to(root))
    return 0


def add_to_config(config_path: str, name: str, model_path: str) -> int:
    """Add an entry for a model; the file is made if it is not there, its folder is not."""

    def add(entries: list[Any]) -> None:
        if any(map(_named(name), entries)):
            raise _EditError(TABLE[Code.MODEL_NAME_OCCUPIED].text)
        entries.append({"config": {"name": name, "base_path": model_path}})

    return _edit(config_path, add, fresh=True)


def remove_from_config(config_path: str, name: str) -> int:
    """Take out the first entry for a model."""

    def remove(entries: list[Any]) -> None:
        index = next((index for index, entry in enumerate(entries) if _named(name)(entry)), None)
        if index is None:
            raise _EditError(TABLE[Code.MODEL_MISSING].text)
        del entries[index]

    return _edit(config_path, remove, fresh=False)


def _edit(config_path: str, edit: Edit, *, fresh: bool) -> int:
    """Change the list of models in a file, and say how it went."""
    path = Path(config_path)
    try:
        document = _load(path, fresh=fresh)
        edit(document["model_config_list"])
        # In place, as the file may be mounted by itself into a container. A server that reads half of it reads again.
        path.write_bytes(dumps(document).encode())
    except _EditError as error:
        print(f"{config_path} error on config update : {error}")
        return 1
    except UnicodeEncodeError:
        print(f"{config_path} error on config update : the name or the path of the model is not UTF-8")
        return 1
    except OSError as error:
        print(f"{config_path} error on config update : {error.strerror}")
        return 1
    for fault in find_faults(loads(dumps(document))):
        print(f"{config_path} cannot be served as it is: {fault}", file=sys.stderr)
    print(f"Config updated: {config_path}")
    return 0


def _load(path: Path, *, fresh: bool) -> Any:
    """The document in a file; it has a list of models, but need not be right otherwise."""
    try:
        document = loads(path.read_bytes())
    except FileNotFoundError:
        if fresh:
            return {"model_config_list": []}
        raise _EditError(TABLE[Code.PATH_INVALID].text) from None
    except ValueError as error:
        raise _EditError(f"{TABLE[Code.JSON_INVALID].text} - {error}") from error
    if not isinstance(document, dict) or not isinstance(document.setdefault("model_config_list", []), list):
        raise _EditError(f"{TABLE[Code.JSON_INVALID].text} - expected an object with the list model_config_list")
    return document


def _named(name: str) -> Callable[[Any], bool]:
    """Whether an entry of the list of models has that name."""

    def has_name(entry: Any) -> bool:
        config = entry.get("config") if isinstance(entry, dict) else None
        return isinstance(config, dict) and config.get("name") == name

    return has_name


def _servables(root: Path) -> Iterator[Path]:
    """The folders below ``root`` that can be served; nothing is looked for inside of them."""
    seen = {root.resolve()}
    waiting = _children(root)
    while waiting:
        folder = waiting.pop()
        if _is_servable(folder):
            yield folder
        elif folder.resolve() not in seen:  # links can run in a ring
            seen.add(folder.resolve())
            waiting += _children(folder)


def _is_servable(folder: Path) -> bool:
    if (folder / GRAPH_FILE).is_file():
        return True
    versions = (child for child in _children(folder) if _VERSION.fullmatch(child.name))
    return any(find_model_files(_files(version)) is not None for version in versions)


def _children(folder: Path) -> list[Path]:
    """The folders in a folder; none if it cannot be read."""
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _files(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.is_dir()]
    except OSError:
        return []
