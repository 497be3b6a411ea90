"""What a look at a model's folder finds, wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tornado_ovms.core.lifecycle import Fingerprint
    from tornado_ovms.core.status import Failure


class VersionFolder(NamedTuple):
    """A version: its folder on disk, or where it will be copied to.

    One that ``is_fresh`` has changed a moment ago, so that somebody may still be writing it.
    """

    path: str
    fingerprint: Fingerprint
    is_fresh: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a model's folder holds.

    Attributes:
        versions: by number.
        warnings: what an operator should know about the rest of it.
        folders: every folder that was looked into.
        failure: why this is not what there is now, but what was seen before; only versions that can be loaded nevertheless.
    """

    versions: Mapping[int, VersionFolder]
    warnings: tuple[str, ...]
    folders: tuple[str, ...] = ()
    failure: Failure | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether any version may still be written."""
        return any(folder.is_fresh for folder in self.versions.values())

    def as_it_is(self) -> Found:
        """The same for somebody who does not want to wait until nothing is written any more."""
        versions = {number: folder._replace(is_fresh=False) for number, folder in self.versions.items()}
        return replace(self, versions=versions)
