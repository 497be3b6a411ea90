"""What a store's client says is what is told of it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tornado_ovms.core.repositories import parse_address
from tornado_ovms.storage import objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Client:
    """One of fsspec's, of which every download ends with an error."""

    def __init__(self, loop: asyncio.AbstractEventLoop, error: Exception) -> None:
        self.loop = loop
        self._error = error

    async def _get_file(self, *_args: object, **_kwargs: object) -> None:
        raise self._error


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One that runs in a thread of its own, as fsspec's does."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def test_the_librarys_own_timeout(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Is told apart from that of our waiting: a download that has ended was not silent."""
    error = TimeoutError("the disk")

    def open_client(*_args: Any, **_kwargs: Any) -> Client:
        return Client(loop, error)

    monkeypatch.setitem(objects._OPENERS, "s3", open_client)
    store = objects.ObjectStore(parse_address("s3://bucket/m"))
    with pytest.raises(TimeoutError, match="the disk"):
        store.copy("bucket/m/1/model.xml", tmp_path / "model.xml")
