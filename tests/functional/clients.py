"""Clients that ask without pause, and know which answers are legal while the server's models change."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.functional.servers import Server, until

if TYPE_CHECKING:
    from collections.abc import Callable

ZEROS = json.dumps({"instances": [[0.0] * 10]})


class Legal:
    """The answers that a model may give now.

    A version that comes is legal before it is there, one that goes until its successor has been seen; a request may get what
    was legal at any time while it ran.
    """

    def __init__(self, *values: float) -> None:
        self.now = frozenset(values)

    def widen(self, value: float) -> None:
        """Another version comes."""
        self.now |= {value}

    def narrow(self, value: float) -> None:
        """It has been seen."""
        self.now = frozenset({value})


class Changes:
    """What is changed while clients ask; ``made`` counts the changes by kind."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.made: Counter[str] = Counter()

    def change(self, kind: str, do: Callable[[], object], is_seen: Callable[[], bool]) -> None:
        """Make a change, and wait until the server has taken it up."""
        do()
        try:
            until(is_seen)
        except AssertionError:
            pytest.fail(f"{kind} was not taken up: {self.server.said()[-3000:]}")
        self.made[kind] += 1


class Client(threading.Thread):
    """Asks without pause on one connection; counts good answers, and keeps what is not one."""

    def __init__(self, server: Server, path: str, legal: Legal) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._path = path
        self._legal = legal
        self.is_over = False
        self.answered = 0
        self.faults: list[object] = []

    def run(self) -> None:
        """See ``Thread``."""
        with contextlib.closing(self._connection):
            while not self.is_over:
                before = self._legal.now
                try:
                    found = self.ask()
                except Exception as error:  # noqa: BLE001 - the test tells what it was
                    self.faults.append(error)
                    return
                if found in before | self._legal.now:
                    self.answered += 1
                else:
                    self.faults.append((self._path, found, before, self._legal.now))

    def post(self, body: str) -> Any:
        """One request; the answer, or status and text of one that failed."""
        self._connection.request("POST", self._path, body)
        answer = self._connection.getresponse()
        text = answer.read()
        return json.loads(text) if answer.status == 200 else (answer.status, text)

    def ask(self) -> object:
        """What the model adds to zeros."""
        answer = self.post(ZEROS)
        return answer["predictions"][0][0] if isinstance(answer, dict) else answer


class Persistent(threading.Thread):
    """Asks until that fails; counts what was answered, and keeps what it failed with."""

    def __init__(self, port: int, *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {} if keeps else {"Connection": "close"}
        self.answered = 0
        self.fault: Exception | None = None

    def run(self) -> None:
        """See ``Thread``."""
        with contextlib.closing(self._connection):
            while self.fault is None:
                try:
                    self._connection.request("POST", "/v1/models/plus:predict", ZEROS, self._headers)
                    answer = self._connection.getresponse()
                    answer.read()
                    assert answer.status == 200
                except Exception as error:  # noqa: BLE001 - the test tells whether it is the right one
                    self.fault = error
                else:
                    self.answered += 1


class Caller(threading.Thread):
    """Asks on connections that it keeps, as long as the server says that it is ready; counts what came back."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.statuses: list[int] = []
        self.reconnected = 0

    def run(self) -> None:
        """See ``Thread``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while True:
            for method, path, body in (("GET", "/v2/health/ready", None), ("POST", "/v1/models/plus:predict", ZEROS)):
                connection.request(method, path, body)
                answer = connection.getresponse()
                answer.read()
                if answer.headers.get("Connection") == "close":
                    self.reconnected += 1
                if path == "/v2/health/ready" and answer.status == 503:
                    connection.close()
                    return
                self.statuses.append(answer.status)
