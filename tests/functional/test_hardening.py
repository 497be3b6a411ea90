"""Clients that want to wear a server out: it refuses them within its limits, holds no more than before, and serves the others."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import pytest

from tests import models
from tests.functional.repository import Repository
from tests.functional.servers import Server, until
from tests.functional.wire import FAULT, ask, exchange, head

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY_BYTES: Final = 8_000_000
PIXELS: Final = 1_000_000
CONNECTIONS: Final = 100
CLIENT_TIMEOUT_S: Final = 1

PEAK_BYTES: Final = 30 * BODY_BYTES
"""What one request may cost at its worst: a body, the document in it, arrays and the answer."""

THREADS: Final = 30

ROW: Final = json.dumps({"instances": [list(range(10))]}).encode()
RIGHT: Final = {"predictions": [[float(number) for number in range(1, 11)]]}
LIVE: Final = head("GET", "/v2/health/live")
LAST: Final = head("GET", "/v2/health/live", "Connection: close")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves dummy f32 [1,10] and any f32 [?,?] (b -> a = b + 1), text [?] and pictures u8 [?,?,?,3], within small limits."""
    repository = Repository(tmp_path_factory.mktemp("hardening"))
    repository.put("dummy", 1, models.adder())
    repository.put("any", 1, models.adder((-1, -1)))
    repository.put("text", 1, models.passthrough((-1,), "string"))
    repository.put("pictures", 1, models.passthrough((-1, -1, -1, 3), "u8"))
    repository.configure("dummy", "any", "text", pictures={"layout": "NHWC"})
    limits = {
        "--max_body_bytes": BODY_BYTES,
        "--max_open_bytes": 2 * BODY_BYTES,
        "--max_image_pixels": PIXELS,
        "--max_connections": CONNECTIONS,
        "--client_timeout": CLIENT_TIMEOUT_S,
    }
    options = [word for name, value in limits.items() for word in (name, str(value))]
    with Server("--config_path", str(repository.config), *options, log=repository.aside()) as server:
        yield server


@pytest.fixture(autouse=True)
def unharmed(guarded: Server) -> Iterator[None]:
    """After each test a good request is answered rightly, and nothing is held that was not before."""
    before, files = guarded.resident_bytes(), guarded.files()
    guarded.forget_peak()
    yield
    until(lambda: guarded.files() <= files)
    assert guarded.request("POST", "/v1/models/dummy:predict", ROW).json == RIGHT
    assert guarded.peak_bytes() - before < PEAK_BYTES
    assert guarded.threads() < THREADS
    assert not FAULT.search(guarded.said())


def connect(server: Server) -> socket.socket:
    """A connection that waits for long."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ([f"x{number}: y" for number in range(120)], [200]),
        ([f"x{number}: y" for number in range(130)], [400]),
        (["x: y"] * 20_000, [400]),
        (["x: " + "y" * 60_000, "z: " + "y" * 60_000], [200]),
        (["x: " + "y" * 70_000], [400]),
        (["x: " + "y" * 140_000], []),
        (["x" * 140_000], []),
    ],
    ids=["many", "too many", "the same", "large", "a large one", "too large", "a large name"],
)
def test_headers(guarded: Server, headers: list[str], statuses: list[int]) -> None:
    """Limited in number and in size."""
    answers = ask(guarded, head("GET", "/v2/health/live", *headers, "Connection: close"))
    assert [answer.status for answer in answers] == statuses


@pytest.mark.parametrize(
    "refused",
    [
        b"BAD\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
    ],
)
def test_a_head_that_is_none(guarded: Server, refused: bytes) -> None:
    """It is answered like everything else: the client knows that nothing more comes."""
    assert exchange(guarded, refused) == b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("piece", [b"x: y\r\n", b"y"])
def test_a_head_without_end(guarded: Server, piece: bytes) -> None:
    """The connection is closed long before all of it has come."""
    begin = b"GET / HTTP/1.1\r\nHost: x\r\n"
    received = exchange(guarded, begin + b"x: y\r\n", *[piece * (65536 // len(piece))] * 1000)
    assert received in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_path_that_is_too_long(guarded: Server) -> None:
    """It is not looked at."""
    assert [answer.status for answer in ask(guarded, head("GET", "/" + "x" * 70_000) + LAST)] == [414]


def drip(client: socket.socket, begin: bytes, piece: bytes) -> bytes:
    """Send a piece ten times a second until the server has enough of it; what it says."""
    client.settimeout(0.1)
    with suppress(ConnectionError):
        client.sendall(begin)
        for _ in range(100 * CLIENT_TIMEOUT_S):
            with suppress(TimeoutError):
                return client.recv(1000)
            client.sendall(piece)
        pytest.fail("the server is more patient than it should be")
    return b""


@pytest.mark.parametrize(
    ("begin", "piece", "status"),
    [
        (b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n", b"x: y\r\n", b""),
        (b"", b"G", b""),
        (head("POST", "/v1/models/dummy:predict", length=5000), b" ", b"HTTP/1.1 408 "),
        (head("POST", "/v1/models/dummy:predict", "Transfer-Encoding: chunked"), b"1\r\n \r\n", b"HTTP/1.1 408 "),
    ],
    ids=["a head", "a word", "a body", "chunks"],
)
def test_clients_that_drip(guarded: Server, begin: bytes, piece: bytes, status: bytes) -> None:
    """However often they send something: what is wanted has not come, and the time is up. Others are served meanwhile."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(guarded)) for _ in range(CONNECTIONS // 2)]
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        drips = [pool.submit(drip, client, begin, piece) for client in clients]
        while not all(each.done() for each in drips):
            assert guarded.request("POST", "/v1/models/dummy:predict", ROW).json == RIGHT
        assert all(said.startswith(status) if status else not said for said in (each.result() for each in drips))


def test_more_connections_than_there_may_be(guarded: Server) -> None:
    """Those beyond are told so or closed; when others end there is room again."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(guarded)) for _ in range(3 * CONNECTIONS)]
        for client in clients:
            with suppress(ConnectionError):
                client.sendall(LIVE)
        statuses = []
        for client in clients:
            with suppress(ConnectionError):
                statuses.append(client.recv(1000)[:13])
        assert statuses.count(b"HTTP/1.1 200 ") == CONNECTIONS
        assert set(statuses) <= {b"HTTP/1.1 200 ", b"HTTP/1.1 503 ", b""}
    until(lambda: guarded.get("/v2/health/live").status == 200)


def test_thousands_of_requests_at_once(guarded: Server) -> None:
    """Each is answered, in its turn, also if that takes longer than a client may take for one."""
    rows = [json.dumps({"instances": [[number] * 10]}).encode() for number in range(5000)]
    requests = b"".join(head("POST", "/v1/models/dummy:predict", length=len(row)) + row for row in rows)
    answers = ask(guarded, *(requests[at : at + 10_007] for at in range(0, len(requests), 10_007)), LAST)
    assert [json.loads(answer.body)["predictions"][0][0] for answer in answers[:-1]] == list(range(1, 5001))


def test_a_client_that_reads_no_answers(guarded: Server) -> None:
    """No request is read while an answer is not taken, and in the end the connection is closed."""
    requests = head("GET", "/v1/models/any/metadata") * 1000
    with connect(guarded) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        sent = 0
        with pytest.raises(ConnectionError):  # noqa: PT012 - whichever of them
            while sent < 1 << 30:
                sent += client.send(requests)
    assert sent < 50_000_000


def test_a_large_answer_that_is_not_read(guarded: Server) -> None:
    """It goes with its connection."""
    body = json.dumps({"inputs": [[0.5] * 100_000] * 10}).encode()
    with connect(guarded) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(head("POST", "/v1/models/any:predict", length=len(body)) + body)
        assert client.recv(13) == b"HTTP/1.1 200 "
        files = guarded.files()
        until(lambda: guarded.files() < files)


def blanks(size: int) -> bytes:
    """Little that becomes much."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(b" " * 1_000_000) for _ in range(size // 1_000_000)) + packer.flush()


BOMB: Final = blanks(1_000_000_000)

PACKED = {
    "one": (BOMB, "gzip", 413),
    "two in one another": (gzip.compress(BOMB), "gzip, gzip", 413),
    "many members": (gzip.compress(b" " * 100_000) * 1000, "gzip", 413),
    "many empty members": (gzip.compress(b"") * 100_000, "gzip", 412),
    "many codings": (gzip.compress(BOMB), ", ".join(["gzip"] * 2000), 413),
    "deflate": (zlib.compress(b" " * (BODY_BYTES + 1)), "deflate", 413),
    "deflate without a header": (zlib.compress(b" " * (BODY_BYTES + 1))[2:-4], "deflate", 413),
    "cut off": (gzip.compress(ROW)[:-9], "gzip", 400),
    "something behind": (gzip.compress(ROW) + b"something", "gzip", 400),
}


@pytest.mark.parametrize(("body", "coding", "status"), PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("path", ["/v1/models/any:predict", "/v2/models/any/infer"])
def test_packed_bodies(guarded: Server, path: str, body: bytes, coding: str, status: int) -> None:
    """Unpacked to what a body may have, and no further."""
    answer = guarded.request("POST", path, body, {"Content-Encoding": coding})
    assert (answer.status, list(answer.json)) == (status, ["error"])


MANY: Final = BODY_BYTES - 100

DOCUMENTS = {
    "lists in lists": (b'{"instances":' + b"[" * 200 + b"]" * 200 + b"}", 500),
    "nothing but brackets": (b"[" * MANY, 500),
    "objects in objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 500),
    "brackets in a text": (b'{"instances":["' + b"[" * MANY + b'"]}', 400),
    "nothing but quotation marks": (b'"' * MANY, 412),
    "nothing but backslashes": (b'{"instances":["' + b"\\" * MANY, 412),
    "a text without end": (b'{"instances":["' + b"a" * MANY, 412),
    "blanks": (b" " * MANY, 412),
    "a number of many digits": (b'{"instances":[[' + b"9" * 4_000_000 + b"]]}", 412),
    "a fraction of many digits": (b'{"instances":[[0.' + b"9" * 4_000_000 + b"]]}", 400),
    "an exponent of many digits": (b'{"instances":[[1e' + b"9" * 4_000_000 + b"]]}", 412),
    "an exponent beyond any number": (b'{"instances":[[1e400]]}', 412),
    "many names": (b"{" + b",".join(b'"%d":0' % number for number in range(500_000)) + b"}", 400),
    "one name many times": (b"{" + b",".join([b'"a":0'] * 500_000) + b"}", 400),
    "many empty objects": (b'{"instances":[' + b",".join([b"{}"] * 500_000) + b"]}", 400),
    "many nulls": (b'{"instances":[[' + b",".join([b"null"] * 1_000_000) + b"]]}", 400),
    "many words": (b'{"instances":[[' + b",".join([b"NaN"] * 1_000_000) + b"]]}", 400),
    "lists among numbers": (b'{"instances":[[' + b",".join([b"1,[]"] * 500_000) + b"]]}", 400),
}


@pytest.mark.parametrize(("body", "status"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents(guarded: Server, body: bytes, status: int) -> None:
    """Read in a time that grows with their size and no faster, and refused with a short sentence."""
    answer = guarded.request("POST", "/v1/models/dummy:predict", body)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert len(answer.body) < 500


def test_texts_that_would_need_much_room(guarded: Server) -> None:
    """OpenVINO takes for each the room that the longest needs."""
    texts = ["a" * 1_000_000, *[""] * 2000]
    answer = guarded.post("/v1/models/text:predict", {"instances": texts})
    assert (answer.status, list(answer.json)) == (500, ["error"])


def test_of_members_that_come_twice_the_first_counts(guarded: Server) -> None:
    """As in OpenVINO Model Server, so that nobody in front of it sees another request."""
    body = ROW[:-1] + b',"instances":[[1]]}'
    assert guarded.request("POST", "/v1/models/dummy:predict", body).json == RIGHT


def tensor(shape: str, more: str = '"data":[]', datatype: str = "FP32") -> bytes:
    """The JSON of an inference with one input."""
    return f'{{"inputs":[{{"name":"b","shape":{shape},"datatype":"{datatype}",{more}}}]}}'.encode()


SHAPES = (
    *("[1099511627776,1099511627776]", "[2147483647,2147483647]", "[-1,10]", "[0,1099511627776]", "[65536,65536]"),
    *("[9223372036854775807,1]", "[18446744073709551616]", "[1e9,1]", "[1.0,10]", "[true,10]", '["1",10]', "[[1]]"),
    *("null", "[]", f"[{'1,' * 100_000}1]", f"[{'9' * 5000}]"),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[:32])
def test_shapes_that_cannot_be(guarded: Server, shape: str) -> None:
    """No product of their sizes is taken for less than it is, and no memory for more than has come."""
    for body, headers in (
        (tensor(shape), {}),
        (json_part := tensor(shape, '"parameters":{"binary_data_size":0}'), length_of(json_part)),
    ):
        answer = guarded.request("POST", "/v2/models/any/infer", body, headers)
        assert (answer.status, list(answer.json)) in ((400, ["error"]), (412, ["error"]))


@pytest.mark.parametrize("shape", ["[0,2147483647]", "[2147483647,0]"])
def test_an_input_of_nothing(guarded: Server, shape: str) -> None:
    """A size of zero makes the others harmless."""
    answer = guarded.request("POST", "/v2/models/any/infer", tensor(shape))
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [])


def length_of(document: bytes) -> dict[str, str]:
    """The header that says where the binary data begins."""
    return {"Inference-Header-Content-Length": str(len(document))}


@pytest.mark.parametrize(
    "size",
    ["39", "41", "0", "-1", "9223372036854775807", "18446744073709551616", "4e1", "40.0", '"40"', "true", "null"],
)
def test_sizes_that_lie(guarded: Server, size: str) -> None:
    """Of binary data: neither more nor less than there is."""
    document = tensor("[1,10]", f'"parameters":{{"binary_data_size":{size}}}')
    answer = guarded.request("POST", "/v2/models/dummy/infer", document + bytes(40), length_of(document))
    assert (answer.status, list(answer.json)) == (400, ["error"])


@pytest.mark.parametrize("length", ["-1", "+5", "0x5", "1e2", "0", "1", "1000000", "9" * 20, "9" * 5000, "\xb2"])
def test_a_length_that_lies(guarded: Server, length: str) -> None:
    """Of the JSON before binary data; OpenVINO Model Server answers some of them with 500."""
    document = tensor("[1,10]", '"parameters":{"binary_data_size":40}')
    answer = guarded.request(
        "POST", "/v2/models/dummy/infer", document + bytes(40), {"Inference-Header-Content-Length": length}
    )
    assert answer.status in (412, 500)
    assert answer.json["error"].startswith(("Inference-Header-Content-Length header ", "The file is not valid json"))


@pytest.mark.parametrize(
    ("shape", "data"),
    [("[2]", struct.pack("<I", 2**32 - 1) + b"a"), ("[2147483647]", bytes(20)), ("[2]", b"\1\0"), ("[1,1]", bytes(4))],
)
def test_strings_that_lie(guarded: Server, shape: str, data: bytes) -> None:
    """Of binary data: about their lengths, or about how many there are."""
    document = tensor(shape, f'"parameters":{{"binary_data_size":{len(data)}}}', "BYTES").replace(b'"b"', b'"x"')
    answer = guarded.request("POST", "/v2/models/text/infer", document + data, length_of(document))
    assert (answer.status, list(answer.json)) == (400, ["error"])


def png(width: int, height: int) -> bytes:
    """A picture of nothing, a thousandth as large as its pixels."""
    done, data = cv2.imencode(".png", np.zeros((height, width, 3), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return data.tobytes()


def that_says(width: int, height: int) -> bytes:
    """A small picture that says that it is another size."""
    return (small := png(8, 8))[:16] + struct.pack(">II", width, height) + small[24:]


PICTURES = {
    "too large": ([png(2000, 2000)], 400),
    "too large, by its head": ([that_says(2**31 - 1, 2**31 - 1)], 400),
    "of no size": ([that_says(0, 8)], 500),
    "larger than it is": ([that_says(1000, 1000)], 500),
    "too many": ([png(1000, 1000)] * 4, 400),
    "a large one among small ones": ([png(8, 8), png(2000, 2000)], 400),
}


@pytest.mark.parametrize(("pictures", "status"), PICTURES.values(), ids=PICTURES)
def test_pictures(guarded: Server, pictures: list[bytes], status: int) -> None:
    """Refused before memory is taken for them; one that does not hold what it says has OpenVINO Model Server's 500."""
    rows = [{"b64": base64.b64encode(picture).decode()} for picture in pictures]
    answer = guarded.post("/v1/models/pictures:predict", {"instances": rows})
    assert (answer.status, list(answer.json)) == (status, ["error"])
