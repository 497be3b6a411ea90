"""Pictures over REST: every form in which they may come, what becomes of them, every refusal, and 5,000 that are broken."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import models
from tests.functional.layout import lay_out
from tests.functional.servers import Answer, Server
from tests.strategies import many

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import openvino as ov

EXAMPLES: Final = 5_000
PIXELS: Final = 1_000_000

Size = int | tuple[int, int]


def taker(*shape: Size, kind: str = "u8", layout: str = "NHWC") -> ov.Model:
    """image -> the same; ranges are pairs, -1 is any size."""
    return models.model([x := models.parameter("image", shape, kind, layout)], image=x)


def pair() -> ov.Model:
    """Two pictures, and a number -> all of them."""
    first, second = (models.parameter(name, (1, 4, 6, 3), "u8", "NHWC") for name in ("first", "second"))
    number = models.parameter("number", (1,))
    return models.model([first, second, number], first=first, second=second, number=number)


KINDS: Final = {
    "u8": np.uint8,
    "i8": np.int8,
    "u16": np.uint16,
    "i16": np.int16,
    "i32": np.int32,
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
}

BUILT: Final = {
    **{f"fixed_{kind}": taker(1, 4, 6, 3, kind=kind) for kind in KINDS},
    **{f"grey_{kind}": taker(1, 2, 2, 1, kind=kind) for kind in KINDS},
    "grey": taker(1, 4, 6, 1),
    "alpha": taker(1, 4, 6, 4),
    "two": taker(2, 4, 6, 3),
    "range": taker(1, (2, 8), (2, 8), 3),
    "ranges": taker((1, 4), (2, 8), (2, 8), 3),
    "open": taker(-1, -1, -1, -1),
    "open_floats": taker(-1, -1, -1, -1, kind="f32"),
    "open_batch": taker(-1, 5, 7, 3),
    "default": taker(1, 5, 7, 3, layout=""),
    "planes": taker(1, 3, 4, 6, layout="NCHW"),
    "turned": taker(1, 3, 4, 6, layout="NCHW"),
    "truth": taker(1, 4, 6, 3, kind="boolean"),
    "flat": taker(1, 12, layout="NC"),
    "numbers": models.adder(),
    "pair": pair(),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of all of these, for pictures of a million pixels at most."""
    folder = tmp_path_factory.mktemp("images")
    arguments = lay_out(folder, BUILT, turned={"layout": "NHWC:NCHW"})
    limit = ["--max_image_pixels", str(PIXELS)]
    with Server(*arguments, *limit, log=folder / "server.log") as running:
        yield running
    assert "Unforeseen" not in running.said()


def draw(height: int, width: int, channels: int = 3, kind: Any = np.uint8) -> np.ndarray:
    """Pixels of all brightnesses."""
    return np.random.default_rng(height * width).integers(0, np.iinfo(kind).max + 1, (height, width, channels), kind)


def encode(pixels: np.ndarray, extension: str = ".png") -> bytes:
    """A file."""
    done, data = cv2.imencode(extension, pixels)
    assert done
    return data.tobytes()


def b64(data: bytes) -> dict[str, str]:
    """As it is sent."""
    return {"b64": base64.b64encode(data).decode()}


SMALL: Final = draw(4, 6)
FILE: Final = encode(SMALL)
OTHER: Final = encode(draw(5, 7))


def predict(server: Server, name: str, body: object) -> Answer:
    """Ask over ``/v1``."""
    return server.post(f"/v1/models/{name}:predict", body)


def see(server: Server, name: str, *files: bytes) -> np.ndarray:
    """What a model gets to see of pictures."""
    answer = predict(server, name, {"instances": [b64(data) for data in files]})
    assert answer.status == 200, answer.body[:500]
    return np.array(answer.json["predictions"])


def see_by_kserve(server: Server, name: str, *files: bytes) -> np.ndarray:
    """The same over ``/v2``, as binary data."""
    data = b"".join(struct.pack("<I", len(each)) + each for each in files)
    entry = {"name": "image", "datatype": "BYTES", "shape": [len(files)], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [entry]}).encode()
    answer = server.request(
        "POST", f"/v2/models/{name}/infer", head + data, {"Inference-Header-Content-Length": str(len(head))}
    )
    assert answer.status == 200, answer.body[:500]
    [found] = answer.json["outputs"]
    return np.array(found["data"]).reshape(found["shape"])


# ---------------------------------------------------------------------- forms of requests

ONE: Final = b64(FILE)
DIMENSIONS: Final = "Invalid number of shape dimensions - Expected number of binary input shape dimensions: 1; Actual: "


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"image": ONE}]},
        {"instances": [ONE]},
        {"inputs": {"image": [ONE]}},
        {"inputs": [ONE]},
        {"signature_name": "", "instances": [{"b64": ONE["b64"][:20] + "\n " + ONE["b64"][20:].rstrip("=")}]},
    ],
)
def test_forms_that_are_taken(served: Server, body: dict[str, Any]) -> None:
    """In rows and in columns, with the input's name and without; blanks in base64 do not count."""
    answer = predict(served, "fixed_u8", body)
    assert answer.status == 200, answer.body
    [found] = answer.json["predictions" if "instances" in body else "outputs"]
    np.testing.assert_array_equal(found, SMALL)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"inputs": {"image": ONE}}, f"{DIMENSIONS}0; input name: image"),
        ({"instances": [{"image": [ONE]}]}, f"{DIMENSIONS}2; input name: image"),
        ({"instances": [[ONE]]}, f"{DIMENSIONS}2; input name: image"),
        ({"inputs": [[ONE]]}, f"{DIMENSIONS}2; input name: image"),
        ({"instances": [ONE, SMALL.tolist()]}, "Could not parse instance content. Not valid ndarray detected"),
        ({"instances": [SMALL.tolist(), ONE]}, "Could not parse instance content. Not valid ndarray detected"),
        ({"inputs": [ONE, SMALL.tolist()]}, "Could not parse input content. Not valid ndarray detected"),
        ({"instances": [{"b64": "?"}]}, "Could not parse instance content. Not valid ndarray detected"),
        ({"instances": [{"b64": ONE["b64"], "x": 1}]}, "Could not parse instance content. Not valid ndarray detected"),
        ({"instances": [ONE, ONE]}, "Invalid input batch size - Expected: 1; Actual: 2; input name: image"),
        ({"instances": []}, "Invalid JSON structure. Missing instances in row format"),
        ({"instances": [{"b64": ""}]}, "String val is empty - input name: image; position: [0]"),
    ],
)
def test_forms_that_are_refused(served: Server, body: object, text: str) -> None:
    """With the reference's sentences."""
    answer = predict(served, "fixed_u8", body)
    assert answer.status == 400
    assert answer.json["error"].startswith(text)


def test_pictures_beside_numbers(served: Server) -> None:
    """Each input for itself, in rows and in columns."""
    row = {"first": b64(FILE), "second": b64(OTHER), "number": 1.5}
    rows = predict(served, "pair", {"instances": [row]})
    columns = predict(served, "pair", {"inputs": {name: [value] for name, value in row.items()}})
    assert (rows.status, columns.status) == (200, 200)
    [found] = rows.json["predictions"]
    np.testing.assert_array_equal(found["first"], SMALL)
    np.testing.assert_array_equal(found["second"], cv2.resize(draw(5, 7), (6, 4)))
    assert found["number"] == 1.5
    assert columns.json["outputs"] == {name: [value] for name, value in found.items()}


NONE: Final = b64(b"no picture")


@pytest.mark.parametrize(
    ("row", "status", "text"),
    [
        # what concerns the request comes before any picture, for all inputs in the order of their names
        ({"first": NONE, "second": [NONE], "number": 1}, 400, f"{DIMENSIONS}2; input name: second"),
        ({"first": [NONE], "second": [NONE], "number": 1}, 400, f"{DIMENSIONS}2; input name: first"),
        ({"first": NONE, "second": NONE, "number": [1]}, 400, "Invalid number of shape dimensions - Expected: (1)"),
        ({"first": NONE, "number": 1}, 400, "Invalid number of inputs"),
        # then each input by itself
        ({"first": NONE, "second": b64(b""), "number": 1}, 500, "Image parsing failed"),
        ({"first": b64(b""), "second": NONE, "number": 1}, 400, "String val is empty - input name: first"),
        ({"first": ONE, "second": b64(encode(draw(2, 2, 1))), "number": 1}, 400, "Invalid number of channels"),
    ],
)
def test_the_order_of_checks(served: Server, row: dict[str, object], status: int, text: str) -> None:
    """Of several faults the one that the reference looks for first is told."""
    answer = predict(served, "pair", {"instances": [row]})
    assert answer.status == status, answer.body
    assert answer.json["error"].startswith(text)


def bomb(width: int, height: int) -> bytes:
    """A small PNG file that stands for many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(2000))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


NO_LAYOUT: Final = "Received binary image input but resource not configured to accept NHWC layout"
CHANNELS: Final = "Invalid number of channels in binary input"
RESOLUTION: Final = "Binary input images for this endpoint are required to have the same resolution"


@pytest.mark.parametrize(
    ("name", "files", "status", "text"),
    [
        ("planes", [b"x"], 400, NO_LAYOUT),
        ("two", [b"x", b""], 400, "String val is empty - input name: image; position: [1]"),
        ("two", [FILE, b"x"], 500, "Image parsing failed - "),
        ("two", [FILE, FILE[:-20]], 500, "Image parsing failed - Expected: a picture"),
        ("two", [FILE], 400, "Invalid input batch size - Expected: 2; Actual: 1; input name: image"),
        ("open", [FILE, OTHER], 400, RESOLUTION),
        ("open", [FILE, encode(draw(5, 7, 1))], 400, RESOLUTION),
        ("open", [FILE, encode(draw(4, 6, 1))], 400, CHANNELS),
        ("fixed_u8", [encode(draw(4, 6, 1))], 400, CHANNELS),
        ("fixed_u8", [encode(draw(4, 6, 4))], 400, CHANNELS),
        ("grey", [FILE], 400, CHANNELS),
        ("open_batch", [FILE], 400, "Invalid input shape - Expected: (-1,5,7,3); Actual: (1,4,6,3); input name: image"),
        ("default", [FILE], 400, "Invalid input shape - Expected: (1,5,7,3); Actual: (1,4,6,3); input name: image"),
        ("truth", [FILE], 400, "Invalid input precision"),
        ("flat", [FILE], 400, "Invalid input shape"),
        ("numbers", [FILE], 500, "Functionality not implemented"),
        ("fixed_u8", [bomb(60_000, 60_000)], 400, "Image has too many pixels - Expected: at most 1000000;"),
        ("fixed_u8", [bomb(1001, 1000)], 400, "Image has too many pixels"),
        ("fixed_u8", [b"\xff\xd8\xff" + bytes(50)], 500, "Image parsing failed"),
        ("fixed_u8", [b"GIF89a" + bytes(50)], 500, "Image parsing failed"),
    ],
)
def test_refusals(served: Server, name: str, files: Sequence[bytes], status: int, text: str) -> None:
    """Of pictures that cannot become what the input wants."""
    answer = predict(served, name, {"instances": [b64(data) for data in files]})
    assert answer.status == status, answer.body
    assert answer.json["error"].startswith(text), answer.body


# ---------------------------------------------------------------------- what becomes of a picture


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp", ".tiff", ".webp"])
def test_formats(served: Server, extension: str) -> None:
    """What OpenCV makes of a file, and nothing else; colours come as blue, green, red."""
    data = encode(draw(33, 47), extension)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    for ask in (see, see_by_kserve):
        np.testing.assert_array_equal(ask(served, "open", data)[0], expected)


def test_colours_come_as_blue_green_red(served: Server) -> None:
    """Red is the last, alpha behind it; a grey picture has one channel."""
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 2] = 200
    assert see(served, "fixed_u8", encode(red))[0, 0, 0].tolist() == [0, 0, 200]
    half = np.dstack([red, np.full((4, 6), 128, np.uint8)])
    assert see(served, "alpha", encode(half))[0, 0, 0].tolist() == [0, 0, 200, 128]
    assert see(served, "grey", encode(draw(4, 6, 1))).shape == (1, 4, 6, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_precisions(served: Server, kind: str) -> None:
    """Rounded and cut to what fits; 16 bits stay 16 bits where they fit."""
    pixels = np.array([[[0], [100]], [[300], [40_000]]], np.uint16)
    found = see(served, f"grey_{kind}", encode(pixels))
    dtype = np.dtype(KINDS[kind])
    top = np.iinfo(dtype).max if dtype.kind in "iu" else np.inf
    assert found.ravel().tolist() == [min(float(value), top) for value in pixels.ravel()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_changed_after_the_precision(served: Server, kind: str) -> None:
    """As ``cv2.resize`` does it, so that a float input gets fractions."""
    pixels = draw(9, 11) // 2
    found = see(served, f"fixed_{kind}", encode(pixels))
    dtype = np.dtype(KINDS[kind])
    if dtype.kind == "f":
        expected = cv2.resize(pixels.astype(np.float64 if dtype == np.float64 else np.float32), (6, 4))
        np.testing.assert_allclose(found[0], expected, rtol=1e-3 if dtype == np.float16 else 1e-6)
        assert (found != np.rint(found)).any()
    else:
        np.testing.assert_allclose(found[0], cv2.resize(pixels, (6, 4)), atol=1)


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("fixed_u8", [(4, 6)], (1, 4, 6, 3)),
        ("fixed_u8", [(50, 40)], (1, 4, 6, 3)),
        ("fixed_u8", [(1, 1)], (1, 4, 6, 3)),
        ("two", [(50, 40), (4, 6)], (2, 4, 6, 3)),
        ("range", [(5, 7)], (1, 5, 7, 3)),
        ("range", [(1, 7)], (1, 2, 7, 3)),
        ("range", [(9, 9)], (1, 8, 8, 3)),
        ("ranges", [(5, 7), (50, 40), (1, 1)], (3, 5, 7, 3)),
        ("open", [(5, 7)], (1, 5, 7, 3)),
        ("open", [(50, 40), (50, 40)], (2, 50, 40, 3)),
        ("open_batch", [(5, 7)] * 5, (5, 5, 7, 3)),
        ("default", [(5, 7)], (1, 5, 7, 3)),
    ],
)
def test_sizes(served: Server, name: str, sizes: Sequence[tuple[int, int]], expected: tuple[int, ...]) -> None:
    """Fixed ones are reached, ranges at their nearest end, open ones left alone; all of a request get the first one's."""
    pictures = [draw(*size) for size in sizes]
    for ask in (see, see_by_kserve):
        found = ask(served, name, *map(encode, pictures))
        assert found.shape == expected
        for index, pixels in enumerate(pictures):
            resized = pixels if pixels.shape == expected[1:] else cv2.resize(pixels, (expected[2], expected[1]))
            np.testing.assert_array_equal(found[index], resized)


def test_a_model_of_planes(served: Server) -> None:
    """With layout ``NHWC:NCHW`` pictures are taken, and the output stays as the model has it."""
    for ask in (see, see_by_kserve):
        found = ask(served, "turned", OTHER)
        np.testing.assert_array_equal(found[0], cv2.resize(draw(5, 7), (6, 4)).transpose(2, 0, 1))


def test_pixels_as_numbers_are_taken_too(served: Server) -> None:
    """The input stays what it is."""
    answer = predict(served, "fixed_u8", {"instances": [SMALL.tolist()]})
    np.testing.assert_array_equal(answer.json["predictions"][0], SMALL)


def test_many_pictures_at_once(served: Server) -> None:
    """In the order of the request, whichever is decoded first."""
    pictures = [draw(5 + index % 3 * 60, 7 + index % 3 * 60) for index in range(40)]
    small = [each for each in pictures if each.shape == (5, 7, 3)]
    np.testing.assert_array_equal(see(served, "open_batch", *map(encode, small)), small)
    resized = [cv2.resize(each, (7, 5)) for each in pictures[:4]]
    np.testing.assert_array_equal(see(served, "ranges", *map(encode, pictures[:4])), resized)


# ---------------------------------------------------------------------- pictures that nobody should send


WHOLE: Final = {
    extension: encode(draw(24, 31, channels, kind), extension)
    for extension, channels, kind in (
        (".png", 3, np.uint8),
        (".jpg", 3, np.uint8),
        (".bmp", 3, np.uint8),
        (".tiff", 3, np.uint16),
        (".webp", 3, np.uint8),
    )
} | {".gif": b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff,\0\0\0\0\2\0\2\0\0\2\3D\2\5\0;"}


def find_sizes(extension: str, data: bytes) -> list[tuple[int, str]]:
    """Where a file tells its height and width, and in which form."""
    if extension == ".jpg":
        start = data.index(b"\xff\xc0") + 5
        return [(start, ">H"), (start + 2, ">H")]
    if extension == ".tiff":
        start = struct.unpack_from("<I", data, 4)[0] + 2
        return [(start + 8, "<H"), (start + 20, "<H"), (start + 8, "<I"), (start + 20, "<I")]
    return {
        ".png": [(16, ">I"), (20, ">I")],
        ".bmp": [(18, "<i"), (22, "<i")],
        ".gif": [(6, "<H"), (8, "<H"), (24, "<H"), (26, "<H")],
        ".webp": [(26, "<H"), (28, "<H"), (16, "<I"), (21, "<I")],
    }[extension]


def enlarge(extension: str, places: Sequence[int], numbers: Sequence[int]) -> bytes:
    """A file that tells other sizes than it has; that of a PNG file is checked by a sum, which is right again."""
    data = bytearray(WHOLE[extension])
    sizes = find_sizes(extension, bytes(data))
    for place, number in zip(places, numbers, strict=True):
        start, form = sizes[place % len(sizes)]
        bits = 8 * struct.calcsize(form)
        struct.pack_into(form.upper(), data, start, number % 2**bits)
    if extension == ".png":
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


_extensions = st.sampled_from(sorted(WHOLE))
_numbers = st.one_of(
    st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 999, 1000, 1001, 2**15, 2**16 - 1, 2**31, 2**32 - 1])
)

broken: Final = st.one_of(
    st.binary(max_size=100),
    st.builds(lambda extension, tail: WHOLE[extension][:16] + tail, _extensions, st.binary(max_size=60)),
    st.builds(lambda extension, at: WHOLE[extension][: at % len(WHOLE[extension])], _extensions, st.integers(0, 10**6)),
    st.builds(
        lambda extension, at, patch: (
            WHOLE[extension][: at % len(WHOLE[extension])]
            + patch
            + WHOLE[extension][at % len(WHOLE[extension]) + len(patch) :]
        ),
        _extensions,
        st.one_of(st.integers(0, 60), st.integers(0, 10**6)),
        st.binary(min_size=1, max_size=6),
    ),
    st.builds(
        enlarge,
        _extensions,
        st.lists(st.integers(0, 3), min_size=2, max_size=2),
        st.lists(_numbers, min_size=2, max_size=2),
    ),
    st.builds(lambda one, other: WHOLE[one] + WHOLE[other], _extensions, _extensions),
    st.builds(lambda one, at, other: WHOLE[one][:at] + WHOLE[other][at:], _extensions, st.integers(0, 60), _extensions),
)


def peak_bytes(server: Server) -> int:
    """The most memory that the server has held so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_broken_pictures_get_a_json_error(served: Server) -> None:
    """5,000 of them, over both APIs: never a crash, never a surprise; memory stays within what one picture may take."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    before = served.resident_bytes()
    answers: dict[int, int] = {}

    @many(EXAMPLES)
    @given(broken, st.sampled_from(["fixed_u8", "range", "open", "open_floats", "grey_f32"]), st.booleans())
    def send(data: bytes, name: str, is_kserve: bool) -> None:  # noqa: FBT001
        if is_kserve:
            head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}).encode()
            packed = struct.pack("<I", len(data)) + data
            headers = {"Inference-Header-Content-Length": str(len(head))}
            connection.request("POST", f"/v2/models/{name}/infer", head + packed, headers)
        else:
            connection.request("POST", f"/v1/models/{name}:predict", json.dumps({"instances": [b64(data)]}).encode())
        answer = connection.getresponse()
        document = json.loads(answer.read())
        answers[answer.status] = answers.get(answer.status, 0) + 1
        if answer.status != 200:
            assert list(document) == ["error"], document
            is_no_picture = document["error"].startswith("Image parsing failed - ")
            assert answer.status == 500 if is_no_picture else 400 <= answer.status < 500, document

    with contextlib.closing(connection):
        send()
    assert sum(answers.values()) >= EXAMPLES
    assert answers.keys() >= {200, 400, 500}
    # A million pixels of "open_floats" are 12 MB, and about 20 MB as digits; 80 MB more at the highest were measured.
    assert peak_bytes(served) - before < 300 << 20
    np.testing.assert_array_equal(see(served, "fixed_u8", FILE)[0], SMALL)
