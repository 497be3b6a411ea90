"""What repositories elsewhere listed last, beside the copies on disk and shared by processes as they are.

It counts while a store does not answer, for processes that start meanwhile. The URL is not written: a hash of it names the slot.
Any thread; no two calls for one URL at a time.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tornado_ovms.storage.copies import Copies

NAME: Final = "listing.json"


class Listings:
    """One listing for each URL.

    Args:
        copies: beside which they lie.
    """

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._slots: dict[str, Path] = {}

    def remember(self, url: str, listing: Any) -> None:
        """Write down what a repository holds, as JSON. A disk that is full keeps what was written before."""
        text = json.dumps(listing)
        with contextlib.suppress(OSError):
            slot = self._hold(url)
            if _read(slot) != text:
                _write(slot, text)

    def recall(self, url: str) -> Any:
        """What was remembered, by whichever process; None if nothing was."""
        with contextlib.suppress(OSError, ValueError):
            if _read(self._slot(url)):
                return json.loads(_read(self._hold(url)))
        return None

    def forget(self, url: str) -> None:
        """This process needs it no more."""
        if slot := self._slots.pop(url, None):
            self._copies.give_up(slot)

    def _slot(self, url: str) -> Path:
        return self._copies.slot(blake2b(url.encode(), digest_size=16).hexdigest())

    def _hold(self, url: str) -> Path:
        slot = self._slots[url] = self._slot(url)
        self._copies.hold(slot)
        return slot


def _read(slot: Path) -> str:
    """The text; empty if there is none."""
    try:
        return (slot / NAME).read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _write(slot: Path, text: str) -> None:
    """All of it or nothing, whoever else writes or reads."""
    with tempfile.TemporaryDirectory(dir=slot) as folder:
        made = Path(folder, NAME)
        made.write_text(text, "utf-8")
        made.replace(slot / NAME)
