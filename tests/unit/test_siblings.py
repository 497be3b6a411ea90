"""What has to happen in all workers, and what only one can do; the other one is a fake at the end of the line."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.manager import Outcome
from tornado_ovms.serving.planes import Planes
from tornado_ovms.serving.reply import Reply
from tornado_ovms.serving.siblings import Errands, Siblings
from tornado_ovms.workers.frames import Topic
from tornado_ovms.workers.link import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable

NOTHING = Outcome(changed=False)
CHANGED = Outcome(changed=True)
BROKEN = Outcome(changed=False, stage=Code.CONFIG_RELOAD, failure=Failure(Code.JSON_INVALID, "line 1"))


class FakeManager:
    """Does what it is told, or raises it."""

    def __init__(self, outcome: Outcome = NOTHING, failure: Failure | None = None) -> None:
        self.outcome = outcome
        self.failure = failure
        self.did: list[str] = []
        self.unloaded = ["m"]

    async def reload(self) -> Outcome:
        """See ``Manager``."""
        self.did.append("reload")
        return self.outcome

    async def load(self, name: str) -> None:
        """See ``Manager``."""
        self.did.append(f"load {name}")
        if self.failure is not None:
            raise self.failure

    async def unload(self, name: str) -> None:
        """See ``Manager``."""
        self.did.append(f"unload {name}")

    def wake(self) -> None:
        """See ``Manager``."""
        self.did.append("wake")


class FakePlane:
    """Answers with what it was asked, later or at once, or raises."""

    def __init__(self, failure: Failure | None = None) -> None:
        self.failure = failure

    def predict(self, **asked: Any) -> Reply | Awaitable[Reply]:
        """See ``DataPlane``."""
        if self.failure is not None:
            raise self.failure
        return Reply(200, [asked["body"], json.dumps([asked["name"], asked["version"]]).encode()])

    async def infer(self, **asked: Any) -> Reply:
        """See ``DataPlane``."""
        return Reply(200, [asked["body"]], headers=(("Inference-Header-Content-Length", str(asked["header"])),))

    async def snapshot(self) -> bytes:
        """See ``DataPlane``."""
        return b"counted"


class FakeLink:
    """The line to one other worker; None for one that does not answer."""

    def __init__(self, errands: Errands | None, index: int = 0) -> None:
        self.place = Place(index, 2, 0, is_late=False)
        self.all_started = asyncio.Event()
        self._errands = errands
        self.told: list[Topic] = []

    async def ask(
        self, topic: Topic, payload: bytes = b"", *, to: int | None = None, seconds: float
    ) -> dict[int, bytes | None]:
        """See ``Link``."""
        assert to in (None, 1 - self.place.index)
        assert seconds > 0
        return {1: None if self._errands is None else await self._errands.answer(topic, payload)}

    def tell(self, topic: Topic) -> None:
        """See ``Link``."""
        self.told.append(topic)


def planes(plane: FakePlane) -> Planes:
    """One plane for everything."""
    return Planes(plane, plane)  # type: ignore[arg-type]


def pair(manager: FakeManager | None = None, plane: FakePlane | None = None) -> Siblings:
    """What a worker has of another one."""
    errands = Errands(manager or FakeManager(), planes(plane or FakePlane()))  # type: ignore[arg-type]
    return Siblings(FakeLink(errands))  # type: ignore[arg-type]


async def here(outcome: Outcome) -> Outcome:
    """This worker's part."""
    return outcome


async def well() -> None:
    """This worker's part, if it comes to nothing in particular."""


@pytest.mark.parametrize("first", [NOTHING, CHANGED, BROKEN])
@pytest.mark.parametrize("second", [NOTHING, CHANGED, BROKEN])
def test_a_reload_is_that_of_all(first: Outcome, second: Outcome) -> None:
    """A fault of any is the answer, and so is a change of any; the other's words arrive unchanged."""
    outcome, missing = asyncio.run(pair(FakeManager(second)).reload(here(first)))
    assert missing == 0
    assert outcome.changed == (first.changed or second.changed)
    failed = [each for each in (first, second) if each.failure is not None]
    assert (outcome.failure is None) == (not failed)
    if failed and outcome.failure is not None:
        assert (outcome.stage, outcome.failure.text) == (Code.CONFIG_RELOAD, BROKEN.failure.text)  # type: ignore[union-attr]


def test_one_that_does_not_answer_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """The reload of the others counts."""

    async def play() -> tuple[Outcome, int]:
        return await Siblings(FakeLink(None)).reload(here(CHANGED))  # type: ignore[arg-type]

    assert asyncio.run(play()) == (CHANGED, 1)
    assert "have not reloaded" in caplog.text


def test_loading_and_unloading() -> None:
    """Done by both; a failure of the other is one of all."""
    manager = FakeManager()
    asyncio.run(pair(manager).manage(Topic.UNLOAD, "m", well()))
    asyncio.run(pair(manager).manage(Topic.LOAD, "m", well()))
    assert manager.did == ["unload m", "load m"]
    with pytest.raises(Failure) as caught:
        asyncio.run(pair(FakeManager(failure=Failure(Code.MODEL_MISSING, "m"))).manage(Topic.LOAD, "m", well()))
    assert (caught.value.code, caught.value.detail) == (Code.MODEL_MISSING, "m")


def test_requests_are_forwarded() -> None:
    """Body and headers come through, of both APIs, and so does a refusal."""
    asked = {"name": "ü", "version": None}
    reply = asyncio.run(pair().forward(Topic.PREDICT, 1, asked, memoryview(b"\x00 1")))
    assert (reply.status, b"".join(reply.body)) == (200, b'\x00 1["\\u00fc", null]')
    reply = asyncio.run(pair().forward(Topic.INFER, 1, {**asked, "header": "3"}, b"abc"))
    assert (reply.headers, b"".join(reply.body)) == ((("Inference-Header-Content-Length", "3"),), b"abc")
    refused = FakePlane(Failure(Code.SEQUENCE_MISSING, "7"))
    with pytest.raises(Failure) as caught:
        asyncio.run(pair(plane=refused).forward(Topic.PREDICT, 1, asked, b""))
    assert (caught.value.code, caught.value.detail) == (Code.SEQUENCE_MISSING, "7")


def test_who_has_the_sequences_may_be_gone() -> None:
    """503: a client may try again."""

    async def play() -> None:
        await Siblings(FakeLink(None)).forward(Topic.PREDICT, 1, {}, b"")  # type: ignore[arg-type]

    with pytest.raises(Failure) as caught:
        asyncio.run(play())
    assert caught.value.http == 503


def test_each_model_has_one_owner() -> None:
    """All workers agree on it, and both own some."""

    async def play() -> tuple[list[int | None], list[int | None]]:
        ends = [Siblings(FakeLink(None, index)) for index in range(2)]  # type: ignore[arg-type]
        names = [f"model {number}" for number in range(40)]
        return [ends[0].owner(name) for name in names], [ends[1].owner(name) for name in names]

    first, second = asyncio.run(play())
    assert all({one, other} in ({None, 0}, {None, 1}) for one, other in zip(first, second, strict=True))
    assert set(first) == {None, 1}
    assert set(second) == {None, 0}


def test_news() -> None:
    """A change is looked for; counters are told."""

    async def play() -> None:
        manager = FakeManager()
        errands = Errands(manager, planes(FakePlane()))  # type: ignore[arg-type]
        link = FakeLink(errands)
        siblings = Siblings(link)  # type: ignore[arg-type]
        siblings.wake()
        siblings.started()
        assert link.told == [Topic.WAKE, Topic.STARTED]
        errands.hear(Topic.WAKE)
        errands.hear(Topic.STARTED)
        assert manager.did == ["wake"]
        assert await siblings.metrics(b"own") == [b"counted"]
        assert await siblings.unloaded() == ["m"]
        assert not siblings.have_started
        link.all_started.set()
        assert siblings.have_started

    asyncio.run(play())


def test_alone() -> None:
    """A server of one process asks nobody."""

    async def play() -> None:
        alone = Siblings()
        assert alone.have_started
        assert await alone.reload(here(CHANGED)) == (CHANGED, 0)
        await alone.manage(Topic.LOAD, "m", well())
        assert alone.owner("m") is None
        assert list(await alone.metrics(b"")) == list(await alone.unloaded()) == []
        alone.wake()
        alone.started()

    asyncio.run(play())
