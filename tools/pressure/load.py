"""Requests over sockets, as many as one thread can send: at a rate, whatever the server does, or each after an answer.

At a rate a latency counts from when a request was due, so that waiting for a free connection, or for one to be accepted, is
part of it: a client that asks only after an answer waits along with a server that stands still, and never sees it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from array import array
from collections import Counter, deque
from typing import Final, NamedTuple

import numpy as np

READ: Final = 1 << 16
OK: Final = 200
NO_ANSWER: Final = 0
"""Instead of a status: the connection could not be made, or ended without an answer; or none came until the end."""

PATIENCE_S: Final = 5.0
"""How long answers are waited for after the last request."""

LOOK_S: Final = 0.001
"""As exact as a request can be in time; the kernel counts milliseconds."""

HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length:"


class Request(NamedTuple):
    """What is sent, and the body of the right answer to it."""

    raw: bytes
    expected: bytes

    @classmethod
    def post(cls, path: str, body: bytes, expected: bytes) -> Request:
        """As most clients send it."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        return cls(head.encode() + body, expected)


class Outcome(NamedTuple):
    """What came back: for each request when it was due, in seconds from the start, how long its answer took, and its status."""

    due_s: np.ndarray
    took_s: np.ndarray
    statuses: np.ndarray
    wrong: int
    connections: int
    """That were opened in all."""

    def counts(self) -> dict[int, int]:
        """How many requests had which status."""
        return dict(sorted(Counter(self.statuses.tolist()).items()))

    def took(self, *statuses: int) -> np.ndarray:
        """The seconds of those with such a status."""
        return self.took_s[np.isin(self.statuses, statuses)]


def quantile_ms(seconds: np.ndarray, share: float) -> float:
    """Milliseconds within which such a share of answers has come; not a number if there is none."""
    return float(np.quantile(seconds, share)) * 1000 if seconds.size else float("nan")


class _Connection:
    """A socket; ``due`` is when the request was due that it is busy with."""

    __slots__ = ("data", "due", "socket")

    def __init__(self, port: int, due: float) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        self.due = due
        self.data = b""


class Load:
    """One run.

    Args:
        port: of the server.
        request: what is sent, again and again.
        connections: how many may be open at once.
        rate: requests a second; 0: each connection asks again when it has an answer.
    """

    def __init__(self, port: int, request: Request, connections: int, rate: float = 0.0) -> None:
        self._port = port
        self._request = request
        self._most = connections
        self._rate = rate
        self._epoll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._due, self._took, self._statuses = array("d"), array("d"), array("i")
        self._wrong = self._opened = 0
        self._start = 0.0

    def run(self, seconds: float) -> Outcome:
        """Ask for so long, and wait for the last answers."""
        self._start = time.perf_counter()
        end = self._start + seconds
        if self._rate:
            self._keep_rate(int(seconds * self._rate), end)
        else:
            while (now := time.perf_counter()) < end:
                while self._ask(time.perf_counter()):
                    pass
                self._poll(end - now)
        while self._busy and time.perf_counter() < end + PATIENCE_S:
            self._poll(0.1)
        for connection in list(self._busy.values()):
            self._end(connection, NO_ANSWER, keep=False)
        for connection in self._idle:
            connection.socket.close()
        self._epoll.close()
        arrays = (np.array(values) for values in (self._due, self._took, self._statuses))
        return Outcome(*arrays, self._wrong, self._opened)

    def _keep_rate(self, total: int, end: float) -> None:
        """Ask so often, in time; what has found no free connection soon after the end has no answer."""
        asked = 0
        while asked < total and (now := time.perf_counter()) < end + PATIENCE_S:
            due = self._start + asked / self._rate
            while asked < total and due <= now and self._ask(due):
                asked += 1
                due = self._start + asked / self._rate
            self._poll(max(0.0, due - now) or LOOK_S)
        for late in range(asked, total):
            self._add(self._start + late / self._rate, time.perf_counter(), NO_ANSWER)

    def _ask(self, due: float) -> bool:
        """Send a request, on a connection that is free or a new one; whether there is one."""
        if self._idle:
            connection = self._idle.popleft()
            connection.due = due
            with contextlib.suppress(OSError):  # then it is told as readable
                connection.socket.send(self._request.raw)
        elif len(self._busy) < self._most:
            connection = _Connection(self._port, due)
            self._opened += 1
            self._epoll.register(connection.socket, select.EPOLLOUT)
        else:
            return False
        self._busy[connection.socket.fileno()] = connection
        return True

    def _poll(self, wait_s: float) -> None:
        for number, events in self._epoll.poll(wait_s):
            connection = self._busy.get(number)
            if connection is None:
                self._drop(number)
            elif events & select.EPOLLOUT:
                self._epoll.modify(number, select.EPOLLIN)
                with contextlib.suppress(OSError):  # as above
                    connection.socket.send(self._request.raw)
            else:
                self._read(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            piece = connection.socket.recv(READ)
        except OSError:
            piece = b""
        if not piece:
            self._end(connection, NO_ANSWER, keep=False)
            return
        data = connection.data + piece
        split = data.find(HEAD_END)
        if split < 0 or len(data) < split + len(HEAD_END) + _length(head := data[:split].lower()):
            connection.data = data
            return
        connection.data = b""
        status = int(data[9:12])
        self._wrong += status == OK and data[split + len(HEAD_END) :] != self._request.expected
        self._end(connection, status, keep=b"connection: close" not in head)

    def _end(self, connection: _Connection, status: int, *, keep: bool) -> None:
        """A request has its answer, or will have none."""
        del self._busy[connection.socket.fileno()]
        self._add(connection.due, time.perf_counter(), status)
        if keep:
            self._idle.append(connection)
        else:
            connection.socket.close()

    def _add(self, due: float, now: float, status: int) -> None:
        self._due.append(due - self._start)
        self._took.append(now - due)
        self._statuses.append(status)

    def _drop(self, number: int) -> None:
        """The server has closed a connection that was idle."""
        for connection in self._idle:
            if connection.socket.fileno() == number:
                self._idle.remove(connection)
                connection.socket.close()
                return


def _length(head: bytes) -> int:
    begin = head.find(LENGTH)
    return int(head[begin + len(LENGTH) :].split(b"\r\n", 1)[0]) if begin >= 0 else 0
