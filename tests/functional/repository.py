"""Model folders and a configuration file, changed like operators change them."""

from __future__ import annotations

import json
import shutil
from itertools import count
from typing import TYPE_CHECKING, Any

from tests import models

if TYPE_CHECKING:
    from pathlib import Path

    import openvino as ov

ALL = {"model_version_policy": {"all": {}}}
"""An entry that serves all versions of its model."""


class Repository:
    """A folder with the configuration file and those of the models.

    Attributes:
        folder: that folder.
        config: the configuration file.
        releases: another folder, not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repository"
        self.folder.mkdir()
        self.config = self.folder / "config.json"
        self.releases = folder / "releases"
        self._aside = folder / "aside"
        self._aside.mkdir()
        self._numbers = count()

    def aside(self) -> Path:
        """A path outside, where nothing is yet."""
        return self._aside / str(next(self._numbers))

    def place(self, name: str, version: int) -> Path:
        """The folder of a version."""
        return self.folder / name / str(version)

    def make(self, model: ov.Model) -> Path:
        """A version folder that is not in its place yet."""
        folder = self.aside()
        models.save(model, folder)
        return folder

    def put(self, name: str, version: int, model: ov.Model) -> None:
        """Rename a version into its place."""
        self.move_in(self.make(model), name, version)

    def move_in(self, made: Path, name: str, version: int) -> None:
        """Rename what has been made into its place; what was there goes away at the same moment, or nearly."""
        place = self.place(name, version)
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            place.rename(old := self.aside())
            made.rename(place)
            shutil.rmtree(old)
        else:
            made.rename(place)

    def write(self, *names: str, **entries: dict[str, Any]) -> bytes:
        """The text of a configuration with these models, of which some have more than a name."""
        wanted = {name: {} for name in names} | entries
        listed = [{"config": {"name": name, "base_path": name, **more}} for name, more in wanted.items()]
        return json.dumps({"model_config_list": listed}).encode()

    def configure(self, *names: str, **entries: dict[str, Any]) -> None:
        """Replace the configuration file by a rename."""
        self.replace_config(self.write(*names, **entries))

    def replace_config(self, text: bytes) -> None:
        """The same with any text."""
        made = self.aside()
        made.write_bytes(text)
        made.rename(self.config)
