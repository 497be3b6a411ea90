"""FastAPI by someone who has measured: orjson both ways, no pydantic on the body, the loop left free."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from served import NAMES, Served

app = FastAPI()
models = {name: Served(name) for name in NAMES}


def answer(name: str, body: bytes) -> bytes:
    """The whole work of a request, in a thread."""
    predictions: Any = models[name].predict(orjson.loads(body)["instances"])
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


# FastAPI evaluates annotations itself, and finds Request and Response in this module.
@app.post("/v1/models/{name}:predict")
async def predict(name: str, request: Request) -> Response:
    """TensorFlow Serving's call."""
    body = await request.body()
    return Response(await run_in_threadpool(answer, name, body), media_type="application/json")
