"""The other workers that serve on the same port: what has to happen in all of them, and what only one of them can do.

``Siblings`` asks them; ``Errands`` does what they ask. A server of one process has no siblings, and then everything here comes to
what this process does itself. Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from typing import TYPE_CHECKING, Any, Final

from tornado_ovms.core.status import Code, Failure
from tornado_ovms.serving.manager import Outcome
from tornado_ovms.serving.reply import Reply
from tornado_ovms.workers.frames import Topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from tornado_ovms.serving.manager import Manager
    from tornado_ovms.serving.planes import Planes
    from tornado_ovms.workers.link import Link


log = logging.getLogger("serving")

RELOAD_S: Final = 60.0
"""How long a reload waits for the other workers, which load the same at the same time."""

METRICS_S: Final = 1.0
"""How long a scrape waits for the other workers; one that is busy for longer is counted as it last was."""

PREDICTION_S: Final = 600.0
"""How long a request waits for the worker that has its sequence. Clients give up long before."""


class Siblings:
    """The other workers.

    Args:
        link: the line to them; None if there are none.
    """

    def __init__(self, link: Link | None = None) -> None:
        self._link = link

    @property
    def have_started(self) -> bool:
        """Whether every one of them has been ready to serve once."""
        return self._link is None or self._link.all_started.is_set()

    def started(self) -> None:
        """Let them know that this one is ready to serve."""
        if self._link is not None:
            self._link.tell(Topic.STARTED)

    def wake(self) -> None:
        """Let them look for changes, too."""
        if self._link is not None:
            self._link.tell(Topic.WAKE)

    def owner(self, name: str) -> int | None:
        """The sibling that has the sequences of a stateful model; None if that is this worker."""
        if self._link is None:
            return None
        place = self._link.place
        index = zlib.crc32(name.encode(errors="replace")) % place.count
        return None if index == place.index else index

    async def reload(self, here: Awaitable[Outcome]) -> tuple[Outcome, int]:
        """Look for changes in all workers.

        Args:
            here: the same in this one.

        Returns:
            What came of it: the first fault of any, and whether anything has changed anywhere; and how many workers had not
            answered in time.
        """
        if self._link is None:
            return await here, 0
        answers, outcome = await asyncio.gather(self._link.ask(Topic.RELOAD, seconds=RELOAD_S), here)
        others = [_read_outcome(answer) for answer in answers.values() if answer is not None]
        missing = sum(answer is None for answer in answers.values())
        if missing:
            log.warning("%d other workers have not reloaded within %.0f s", missing, RELOAD_S)
        changed = any(each.changed for each in (outcome, *others))
        failed = next((each for each in (outcome, *others) if each.failure is not None), outcome)
        return Outcome(changed, failed.stage, failed.failure), missing

    async def manage(self, topic: Topic, name: str, here: Awaitable[None]) -> None:
        """Load or unload a model in all workers.

        Args:
            topic: LOAD or UNLOAD.
            name: the model's.
            here: the same in this worker.

        Raises:
            Failure: what ``here`` raises, or what keeps another worker from it.
        """
        if self._link is None:
            await here
            return
        payload = json.dumps({"name": name}).encode()
        answers, _ = await asyncio.gather(self._link.ask(topic, payload, seconds=RELOAD_S), here)
        for answer in answers.values():
            if answer:
                raise _read_failure(json.loads(answer))

    @property
    def are_there(self) -> bool:
        """Whether there are any."""
        return self._link is not None

    async def unloaded(self) -> Sequence[str]:
        """The models that the others do not serve, since somebody asked them to unload these."""
        if self._link is None:
            return ()
        answers = await self._link.ask(Topic.UNLOADED, seconds=METRICS_S)
        return sorted({name for answer in answers.values() if answer is not None for name in json.loads(answer)})

    async def metrics(self, own: bytes) -> Sequence[bytes]:
        """The snapshots of the others, and of those that have ended; ``own`` is that of this worker."""
        if self._link is None:
            return ()
        answers = await self._link.ask(Topic.METRICS, own, seconds=METRICS_S)
        return [answer for answer in answers.values() if answer is not None]

    async def forward(
        self, topic: Topic, owner: int, asked: Mapping[str, str | int | None], body: bytes | memoryview
    ) -> Reply:
        """Let a sibling answer a request.

        Raises:
            Failure: what it raises; SERVER_NOT_READY if it is gone, and with it the sequences that it had.
        """
        if self._link is None:
            raise Failure(Code.SERVER_NOT_READY)
        head = json.dumps(asked).encode()
        payload = b"".join((b"%d " % len(head), head, body))
        answers = await self._link.ask(topic, payload, to=owner, seconds=PREDICTION_S)
        answer = next(iter(answers.values()), None)
        if answer is None:
            raise Failure(Code.SERVER_NOT_READY, "the worker that has this model's sequences is being started again")
        told, rest = _split(answer)
        if "code" in told:
            raise _read_failure(told)
        return Reply(told["status"], [rest], headers=tuple((name, value) for name, value in told["headers"]))


ALONE: Final = Siblings()
"""A server of one process has none."""


class Errands:
    """What siblings ask for.

    Args:
        manager: what keeps this worker up to date.
        planes: what answers requests that are forwarded to it, and tells what it has counted.
    """

    def __init__(self, manager: Manager, planes: Planes) -> None:
        self._manager = manager
        self._planes = planes

    async def answer(self, topic: Topic, payload: bytes) -> bytes:
        """Answer a question."""
        if topic is Topic.METRICS:
            return await self._planes.control.snapshot()
        if topic is Topic.UNLOADED:
            return json.dumps(self._manager.unloaded).encode()
        if topic is Topic.RELOAD:
            return _write_outcome(await self._manager.reload())
        if topic in (Topic.PREDICT, Topic.INFER):
            return await self._predict(topic, payload)
        name = json.loads(payload)["name"]
        try:
            await (self._manager.load(name) if topic is Topic.LOAD else self._manager.unload(name))
        except Failure as failure:
            return _write_failure(failure)
        return b""

    def hear(self, topic: Topic) -> None:
        """Take note of news."""
        if topic is Topic.WAKE:
            self._manager.wake()

    async def _predict(self, topic: Topic, payload: bytes) -> bytes:
        asked, body = _split(payload)
        try:
            found = (
                self._planes.data.predict(body=body, **asked)
                if topic is Topic.PREDICT
                else self._planes.data.infer(body=body, **asked)
            )
            reply = found if isinstance(found, Reply) else await found
        except Failure as failure:
            head = _write_failure(failure)
            return b"%d %b" % (len(head), head)
        head = json.dumps({"status": reply.status, "headers": reply.headers}).encode()
        return b"%d %b%b" % (len(head), head, b"".join(reply.body))


def _split(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """A JSON object with its length before it, and what follows."""
    length, _, rest = payload.partition(b" ")
    return json.loads(rest[: int(length)]), rest[int(length) :]


def _write_failure(failure: Failure) -> bytes:
    return json.dumps({"code": failure.code.name, "detail": failure.detail}).encode()


def _read_failure(told: Mapping[str, Any]) -> Failure:
    return Failure(Code[told["code"]], told["detail"])


def _write_outcome(outcome: Outcome) -> bytes:
    told = None if outcome.failure is None else json.loads(_write_failure(outcome.failure))
    return json.dumps({"changed": outcome.changed, "stage": outcome.stage.name, "failure": told}).encode()


def _read_outcome(answer: bytes) -> Outcome:
    told = json.loads(answer)
    failure = None if told["failure"] is None else _read_failure(told["failure"])
    return Outcome(told["changed"], Code[told["stage"]], failure)
