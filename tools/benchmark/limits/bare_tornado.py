"""Tornado with nothing around it: ``bare_tornado.py KIND PORT [MODEL SETTINGS]``.

handler      a RequestHandler that answers a constant
delegate     an HTTPMessageDelegate that does
parse        one that reads the numbers of a body first, and makes one copy of them in float32
parse-infer  one that lets a model compute with them, too
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import simdjson
from tornado import httpserver, httputil, web

ANSWER = b'{"predictions":[[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0,10.0]]}'
HEAD = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
LARGEST = 1 << 28
PARSER = simdjson.Parser()  # keeps its memory between bodies

Work = Callable[[bytes, Callable[[], None]], None]


class Handler(web.RequestHandler):
    """As Tornado's documentation writes one."""

    def post(self) -> None:
        """Answer a constant."""
        self.set_header("Content-Type", "application/json")
        self.finish(ANSWER)


class Message(httputil.HTTPMessageDelegate):
    """One request."""

    def __init__(self, connection: httputil.HTTPConnection, work: Work) -> None:
        self._connection, self._work = connection, work
        self._pieces: list[bytes] = []

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(chunk)

    def finish(self) -> None:
        """The whole body is there."""
        self._work(b"".join(self._pieces), self._answer)

    def _answer(self) -> None:
        headers = httputil.HTTPHeaders({"Content-Type": "application/json", "Content-Length": str(len(ANSWER))})
        self._connection.write_headers(HEAD, headers, ANSWER)
        self._connection.finish()


class Delegate(httputil.HTTPServerConnectionDelegate):
    """All requests."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def start_request(self, _: object, request_conn: httputil.HTTPConnection) -> Message:
        """A request begins."""
        return Message(request_conn, self._work)


def nothing(_: bytes, answer: Callable[[], None]) -> None:
    """Leave the body alone."""
    answer()


def numbers(body: bytes) -> np.ndarray[Any, Any]:
    """The numbers of a body: read once, copied once."""
    document: Any = PARSER.parse(body)
    return np.frombuffer(document["instances"].as_buffer(of_type="d")).astype(np.float32)


def parse(body: bytes, answer: Callable[[], None]) -> None:
    """Read the body."""
    numbers(body)
    answer()


def inferring(model: str, settings: str) -> Work:
    """Read the body and let a model compute."""
    compiled = ov.Core().compile_model(model, "CPU", json.loads(settings))
    shape = compiled.input(0).shape
    queue = ov.AsyncInferQueue(compiled)
    loop = asyncio.get_running_loop()
    queue.set_callback(lambda _, answer: loop.call_soon_threadsafe(answer))
    return lambda body, answer: queue.start_async([numbers(body).reshape(shape)], answer, share_inputs=True)


async def main(kind: str, port: int, *model: str) -> None:
    """Serve until the process is ended."""
    if kind == "handler":
        app: Any = web.Application([(".*", Handler)], log_function=lambda _: None)
    else:
        app = Delegate(nothing if kind == "delegate" else parse if kind == "parse" else inferring(*model))
    httpserver.HTTPServer(app, max_buffer_size=LARGEST).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
