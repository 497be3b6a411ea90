"""Pictures to arrays: colours, precisions, sizes, and every refusal."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import NUMERIC
from tornado_ovms.codec import images
from tornado_ovms.codec.images import decode_images
from tornado_ovms.core.settings import Limits
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.core.tensors import ANY, Dim, Layout, Precision, Shape, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

PIXELS = 10_000
LIMITS = Limits(image_pixels=PIXELS)
"""The limit, where a test has no other."""

Size = int | tuple[int, int | None]
"""Of a dimension: fixed, or from and to; -1 for any."""


def spec(*sizes: Size, layout: str = "NHWC", precision: Precision = Precision.U8) -> TensorSpec:
    """An input called image."""
    dims = (Dim(*size) if isinstance(size, tuple) else ANY if size < 0 else Dim.fixed(size) for size in sizes)
    return TensorSpec("image", precision, Shape(dims), Layout(layout))


def draw(height: int, width: int, channels: int = 3, kind: type = np.uint8) -> np.ndarray:
    """Pixels of all brightnesses."""
    limit = np.iinfo(kind).max + 1
    return np.random.default_rng(1).integers(0, limit, (height, width, channels), kind)


def encode(pixels: np.ndarray, extension: str = ".png") -> bytes:
    """A file."""
    done, data = cv2.imencode(extension, pixels)
    assert done
    return data.tobytes()


def picture(height: int, width: int, channels: int = 3) -> bytes:
    """A file of that size."""
    return encode(draw(height, width, channels))


def refusal(tensor: TensorSpec, pictures: Sequence[bytes], max_pixels: int = PIXELS) -> Failure:
    """What is wrong with pictures."""
    with pytest.raises(Failure) as caught:
        decode_images(tensor, pictures, Limits(image_pixels=max_pixels))
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG file with 8 bits of red, green and blue a pixel."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_come_as_blue_green_red() -> None:
    """OpenCV's order, on which clients' models are trained."""
    red = png(1, 1, b"\0\xff\x01\x02")
    assert decode_images(spec(1, 1, 1, 3), [red], LIMITS).tolist() == [[[[2, 1, 255]]]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_not_changed(channels: int) -> None:
    """Nothing is converted between colours: grey has one channel, alpha stays."""
    pixels = draw(5, 7, channels)
    array = decode_images(spec(1, 5, 7, channels), [encode(pixels)], LIMITS)
    np.testing.assert_array_equal(array, pixels[np.newaxis])
    assert (array.dtype, array.flags.writeable, array.flags.c_contiguous) == (np.uint8, True, True)


@pytest.mark.parametrize("extension", [".png", ".bmp", ".tiff", ".webp", ".jpg"])
def test_formats(extension: str) -> None:
    """All that are promised, GIF apart, which OpenCV knows since 4.11."""
    pixels = np.full((16, 24, 3), 77, np.uint8)
    array = decode_images(spec(1, 16, 24, 3), [encode(pixels, extension)], LIMITS)
    np.testing.assert_allclose(array[0], pixels, atol=2)


def test_orientation_in_exif_is_not_applied() -> None:
    """A camera's note that its picture lies on its side changes nothing."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
    plain = encode(draw(16, 8), ".jpg")
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    tensor = spec(1, 16, 8, 3)
    assert decode_images(tensor, [turned], LIMITS).tobytes() == decode_images(tensor, [plain], LIMITS).tobytes()


def test_pictures_follow_each_other() -> None:
    """One for each of the batch, in the request's order."""
    first, second = draw(5, 7), draw(5, 7)[::-1]
    array = decode_images(spec(-1, 5, 7, 3), [encode(first), encode(second)], LIMITS)
    np.testing.assert_array_equal(array, np.stack([first, second]))


@pytest.mark.parametrize("precision", NUMERIC)
def test_precisions(precision: Precision) -> None:
    """16 bits stay 16 bits where they fit, and become the nearest value where they do not."""
    assert precision.dtype is not None
    pixels = np.array([[[0], [100], [300], [65535]]], np.uint16)
    array = decode_images(spec(1, 1, 4, 1, precision=precision), [encode(pixels)], LIMITS)
    top = 65536 if precision.dtype.kind == "f" else np.iinfo(precision.dtype).max
    expected = [min(value, top) for value in (0, 100, 300, 65535)]
    assert array.dtype == precision.dtype
    assert array.ravel().tolist() == ([0, 100, 300, np.inf] if precision is Precision.FP16 else expected)


@pytest.mark.parametrize("precision", NUMERIC)
def test_the_size_is_changed_after_the_precision(precision: Precision) -> None:
    """A float input gets fractions of it, an integer input rounded values; bilinear, as ``cv2.resize`` does."""
    assert precision.dtype is not None
    array = decode_images(spec(1, 1, 4, 1, precision=precision), [encode(np.array([[[0], [101]]], np.uint8))], LIMITS)
    is_float = precision.dtype.kind == "f"
    assert array.dtype == precision.dtype
    assert array.ravel().tolist() == ([0, 25.25, 75.75, 101] if is_float else [0, 25, 76, 101])


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.U8, Precision.I8])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sizes_are_changed_as_opencv_does(precision: Precision, channels: int) -> None:
    """Smaller in one direction, larger in the other."""
    pixels = draw(9, 6, channels) // 2
    array = decode_images(spec(1, 4, 11, channels, precision=precision), [encode(pixels)], LIMITS)
    resized = cv2.resize(pixels.astype(np.float32), (11, 4)).reshape(1, 4, 11, channels)
    np.testing.assert_allclose(array.astype(np.float32), resized, atol=0.01 if precision is Precision.FP32 else 1)


@pytest.mark.parametrize(
    ("layout", "sizes", "height", "width"),
    [
        ("NHWC", (1, 4, 6, 3), 4, 6),
        ("...", (1, 4, 6, 3), 4, 6),
        ("NHWC", ((1, 8), 4, 6, (1, 4)), 4, 6),
        ("NHWC", (1, (2, 8), (2, 8), 3), 5, 7),
        ("NHWC", (1, (6, 8), (2, 6), 3), 6, 6),
        ("NHWC", (1, (1, 3), 7, 3), 3, 7),
        ("NHWC", (1, -1, -1, 3), 5, 7),
        ("NHWC", (-1, 5, 7, 3), 5, 7),
        ("NHWC", (1, 5, 7, -1), 5, 7),
        ("N...", (1, 5, 7, 3), 5, 7),
        ("N...", (1, -1, 7, 3), 5, 7),
        ("N...", (1, (2, 8), (2, 8), 3), 5, 7),
        ("N??C", (1, 5, 7, 3), 5, 7),
    ],
)
def test_sizes_that_a_picture_of_7_x_5_gets(layout: str, sizes: tuple[Size, ...], height: int, width: int) -> None:
    """Fixed sizes are reached, ranges at their nearest end; nothing is resized with an open dimension or by default."""
    assert decode_images(spec(*sizes, layout=layout), [picture(5, 7)], LIMITS).shape == (1, height, width, 3)


@pytest.mark.parametrize(
    ("layout", "sizes"),
    [
        ("N...", (1, 4, 6, 3)),
        ("N...", (1, 5, (1, 6), 3)),
        ("NHWC", (-1, 4, 6, 3)),
        ("NHWC", (1, (8, None), 7, 3)),
        ("NHWC", (1, -1, 6, 3)),
    ],
)
def test_sizes_that_cannot_be_changed_have_to_fit(layout: str, sizes: tuple[Size, ...]) -> None:
    """An open dimension, or the layout that a tensor has by default, forbids resizing."""
    tensor = spec(*sizes, layout=layout)
    failure = refusal(tensor, [picture(5, 7)])
    assert (failure.code, failure.http) == (Code.SHAPE, 400)
    assert failure.detail == f"Expected: {tensor.shape}; Actual: (1,5,7,3); input name: image"


def test_all_pictures_of_a_request_get_the_first_one_s_size() -> None:
    """Where the input leaves a choice, and may resize."""
    pictures = [picture(5, 7), picture(9, 2), picture(1, 1)]
    assert decode_images(spec(3, (2, 8), (2, 8), 3), pictures, LIMITS).shape == (3, 5, 7, 3)


@pytest.mark.parametrize("layout", ["NCHW", "NHW", "N...C?", "CHWN", "NHWCD", "NWHC"])
def test_layouts_that_no_picture_fits(layout: str) -> None:
    """An input has to be N...HWC, or not contradict it."""
    failure = refusal(spec(1, 5, 7, 3, layout=layout), [picture(5, 7)])
    assert failure.text == (
        "Received binary image input but resource not configured to accept NHWC layout - "
        f"Expected: N...HWC; Actual: {layout}; input name: image"
    )


def test_empty_pictures_are_refused() -> None:
    """Before any is decoded."""
    failure = refusal(spec(2, 5, 7, 3), [b"x", b""])
    assert (failure.http, failure.text) == (400, "String val is empty - input name: image; position: [1]")


WHOLE = encode(draw(5, 7))


@pytest.mark.parametrize(
    "data",
    [
        *(b"x", b"P6\n1 1\n255\nabc", b"#?RADIANCE\n", b"<svg/>", bytes(100), WHOLE[:20], WHOLE[:33], WHOLE[:-40]),
        *(b"\x89PNG\r\n\x1a\n" + WHOLE[40:], encode(draw(5, 7), ".bmp")[:60], encode(draw(5, 7), ".webp")[:40]),
    ],
)
def test_what_is_no_picture_is_the_reference_s_500(data: bytes) -> None:
    """Other data, other formats, pictures that are cut off; the picture is named."""
    failure = refusal(spec(2, 5, 7, 3), [WHOLE, data])
    assert failure.http == 500
    assert failure.text.startswith("Image parsing failed - ")
    assert failure.text.endswith("input name: image; position: [1]")


def test_what_opencv_refuses_by_an_exception_is_no_picture() -> None:
    """It has a limit of its own, which an operator's may be beyond."""
    failure = refusal(spec(1, 4, 4, 3), [png(60_000, 60_000, bytes(1000))], 1 << 40)
    assert failure.text == "Image parsing failed - input name: image; position: [0]"


def test_pictures_of_different_sizes_are_refused_if_they_cannot_be_resized() -> None:
    """They would not make an array."""
    failure = refusal(spec(-1, -1, -1, 3), [picture(5, 7), picture(5, 8)])
    assert failure.http == 400
    assert failure.text == (
        "Binary input images for this endpoint are required to have the same resolution - "
        "Expected: 7 x 5; Actual: 8 x 5; input name: image; position: [1]"
    )


@pytest.mark.parametrize(
    ("last", "channels", "detail"),
    [
        (3, [1], "Expected: 3; Actual: 1; input name: image; position: [0]"),
        (1, [1, 4], "Expected: 1; Actual: 4; input name: image; position: [1]"),
        ((3, 4), [1], "Expected: [3~4]; Actual: 1; input name: image; position: [0]"),
        (-1, [3, 1], "Expected: 3; Actual: 1; input name: image; position: [1]"),
        ((1, 4), [1, 3], "Expected: 1; Actual: 3; input name: image; position: [1]"),
    ],
)
def test_channels_have_to_fit(last: Size, channels: list[int], detail: str) -> None:
    """The input's, or those of the first picture."""
    failure = refusal(spec(len(channels), 5, 7, last), [picture(5, 7, count) for count in channels])
    assert (failure.http, failure.code) == (400, Code.IMAGE_CHANNELS)
    assert failure.detail == detail


@pytest.mark.parametrize("precision", [Precision.BOOL, Precision.STRING, Precision.UNDEFINED])
def test_precisions_that_no_picture_has(precision: Precision) -> None:
    """There is no picture of truth values."""
    failure = refusal(spec(1, 5, 7, 3, precision=precision), [WHOLE])
    assert failure.text == (
        f"Invalid input precision - Expected: {precision.value}; Actual: a picture; input name: image; position: [0]"
    )


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp", ".tiff", ".webp"])
def test_the_limit_of_pixels_is_exact(extension: str) -> None:
    """Width times height; one more is refused."""
    data = encode(draw(5, 7), extension)
    assert decode_images(spec(1, 5, 7, 3), [data], Limits(image_pixels=35)).shape == (1, 5, 7, 3)
    failure = refusal(spec(1, 5, 7, 3), [data], 34)
    assert (failure.http, failure.text) == (
        400,
        "Image has too many pixels - Expected: at most 34; Actual: 7 x 5; input name: image; position: [0]",
    )


@pytest.mark.parametrize("resized", [True, False])
def test_a_bomb_is_refused_before_it_takes_memory(
    monkeypatch: pytest.MonkeyPatch,
    resized: bool,  # noqa: FBT001
) -> None:
    """A few bytes that stand for 10 GB never reach OpenCV, whatever size the input has."""
    monkeypatch.setattr(images.cv2, "imdecode", None)
    bomb = png(60_000, 60_000, bytes(1000))
    tracemalloc.start()
    try:
        failure = refusal(spec(1, 4, 4, 3) if resized else spec(1, -1, -1, 3), [bomb], 64 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert failure.code is Code.IMAGE_TOO_LARGE
    assert peak < 100_000


@given(
    st.sampled_from([".png", ".jpg", ".bmp", ".tiff", ".webp"]),
    st.integers(0, 400),
    st.binary(max_size=8),
    st.sampled_from([Precision.U8, Precision.FP32]),
)
def test_any_bytes_are_an_array_or_a_failure(extension: str, at: int, patch: bytes, precision: Precision) -> None:
    """Nothing else is raised, whatever is wrong with a picture."""
    data = encode(np.full((5, 7, 3), 99, np.uint8), extension)
    try:
        array = decode_images(spec(1, 4, 4, 3, precision=precision), [data[:at] + patch + data[at + 8 :]], LIMITS)
    except Failure as failure:
        assert failure.code in (Code.IMAGE_UNREADABLE, Code.IMAGE_TOO_LARGE, Code.IMAGE_CHANNELS)  # noqa: PT017
    else:
        assert (array.shape, array.dtype) == ((1, 4, 4, 3), precision.dtype)


@pytest.mark.parametrize(
    ("layout", "sizes", "height"),
    [("N?HWC", (2, 1, 10, 14, 3), 10), ("N?HWC", (2, 1, (8, 20), 14, 3), 8), ("N?...", (2, 1, 5, 7, 3), 5)],
)
def test_pictures_for_five_dimensions(layout: str, sizes: tuple[Size, ...], height: int) -> None:
    """They are brought to the size like those for four, and have a dimension of one between number and height."""
    array = decode_images(spec(*sizes, layout=layout), [picture(5, 7), picture(5, 7)], LIMITS)
    assert array.shape == (2, 1, height, sizes[3], 3)
    four = spec(sizes[0], *sizes[2:], layout=layout.replace("?", ""))
    np.testing.assert_array_equal(array[:, 0], decode_images(four, [picture(5, 7), picture(5, 7)], LIMITS))


def test_pictures_for_five_dimensions_that_do_not_fit() -> None:
    """A batch of two cannot be made of one picture; sizes and layouts are looked at as for four."""
    assert refusal(spec(2, 2, 5, 7, 3, layout="N?HWC"), [picture(5, 7)] * 2).code is Code.SHAPE
    assert refusal(spec(2, 1, 5, 8, 3, layout="N?..."), [picture(5, 7)] * 2).code is Code.SHAPE
    assert refusal(spec(2, 1, 5, 7, 1, layout="N?HWC"), [picture(5, 7)] * 2).code is Code.IMAGE_CHANNELS
    assert refusal(spec(2, 1, 3, 5, 7, layout="N?CHW"), [picture(5, 7)] * 2).code is Code.IMAGE_LAYOUT
    pictures = [picture(5, 7), picture(5, 8)]
    assert refusal(spec(-1, 1, 5, 7, 3, layout="N?HWC"), pictures).code is Code.IMAGE_RESOLUTION
