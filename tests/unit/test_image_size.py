"""Sizes of pictures, read from headers that OpenCV wrote and from some that it does not write."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_ovms.codec.image_size import Size, find_size

WRITTEN = [".jpg", ".png", ".bmp", ".tiff", ".webp"]
MAGIC = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"GIF87a", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBPVP8"]


def encode(extension: str, height: int, width: int, channels: int = 3, options: tuple[int, ...] = ()) -> bytes:
    """A picture in a format that OpenCV writes."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    done, data = cv2.imencode(extension, pixels, options)
    assert done
    return data.tobytes()


@pytest.mark.parametrize("extension", WRITTEN)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (7, 5), (1, 300), (300, 1), (257, 255)])
def test_sizes_are_those_that_opencv_wrote(extension: str, height: int, width: int) -> None:
    """Width and height in their order, beyond one byte too."""
    assert find_size(encode(extension, height, width)) == Size(width, height)


@pytest.mark.skipif(not cv2.haveImageWriter("x.gif"), reason="OpenCV writes GIF since 4.11")
def test_gif() -> None:
    """As OpenCV writes it."""
    assert find_size(encode(".gif", 5, 7)) == Size(7, 5)


@pytest.mark.parametrize(
    ("extension", "channels", "options"),
    [
        (".jpg", 1, ()),
        (".jpg", 3, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".jpg", 3, (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)),
        (".png", 1, ()),
        (".png", 1, (cv2.IMWRITE_PNG_BILEVEL, 1)),
        (".png", 4, ()),
        (".bmp", 1, ()),
        (".bmp", 4, ()),
        (".tiff", 1, ()),
        (".tiff", 3, (cv2.IMWRITE_TIFF_COMPRESSION, 1)),
        (".webp", 3, (cv2.IMWRITE_WEBP_QUALITY, 50)),
        (".webp", 4, (cv2.IMWRITE_WEBP_QUALITY, 50)),
        (".webp", 4, ()),
    ],
)
def test_every_kind_of_a_format(extension: str, channels: int, options: tuple[int, ...]) -> None:
    """Grey, with alpha, progressive, lossless, with other first chunks."""
    assert find_size(encode(extension, 33, 65, channels, options)) == Size(65, 33)


FRAME = struct.pack(">HBHH", 17, 8, 600, 800)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"\xff\xd8\xff\xc0" + FRAME, Size(800, 600)),
        (b"\xff\xd8\xff\xcf" + FRAME, Size(800, 600)),
        (b"\xff\xd8\xff\xff\xff\xc2" + FRAME, Size(800, 600)),
        (b"\xff\xd8\xff\xe1\x00\x06\xff\xc0\xff\xc0\xff\xc1" + FRAME, Size(800, 600)),
        (b"\xff\xd8\xff\xc4\x00\x02\xff\x01\xff\xd0\xff\xc0" + FRAME, Size(800, 600)),
        (b"GIF87a\x20\x03\x58\x02", Size(800, 600)),
        (b"BM" + bytes(12) + struct.pack("<IHH", 12, 800, 600), Size(800, 600)),
        (b"BM" + bytes(12) + struct.pack("<Iii", 40, 800, -600), Size(800, 600)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x1f\x03\0\x57\x02\0", Size(800, 600)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\xff\xff\xff" * 2, Size(1 << 24, 1 << 24)),
        (b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHIHH", 256, 4, 1, 800, 257, 3, 1, 600, 0), Size(800, 600)),
        (b"MM\0*\0\0\0\x08\0\x02" + struct.pack(">HHIIHHIHH", 256, 4, 1, 800, 257, 3, 1, 600, 0), Size(800, 600)),
        (b"MM\0*\0\0\0\x08\0\x02" + struct.pack(">HHIIHHII", 256, 4, 1, 8, 256, 4, 1, 800), Size(800, 0)),
    ],
)
def test_headers_that_opencv_does_not_write(data: bytes, size: Size) -> None:
    """Other frames, fillings, thumbnails in front, old headers, bottom-up pictures, both byte orders."""
    assert find_size(data) == size


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"picture",
        b"P6\n7 5\n255\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\x04CgBI" + bytes(20),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WAVEfmt " + bytes(20),
        b"RIFF\0\0\0\0WEBPALPH" + bytes(20),
        b"II*\0\xff\xff\xff\x7f",
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 256, 1, 1, 8),
        b"II+\0\x08\0\0\0" + bytes(20),
    ],
)
def test_other_data_has_no_size(data: bytes) -> None:
    """Other formats, and headers that no decoder of these formats takes."""
    assert find_size(data) is None


@pytest.mark.parametrize("extension", WRITTEN)
def test_truncated_headers_have_no_size(extension: str) -> None:
    """However short a picture is cut off: it has the size of the whole, or none."""
    data = encode(extension, 5, 7)
    found = [find_size(data[:length]) for length in range(len(data) + 1)]
    assert set(found) == {None, Size(7, 5)}
    assert found == sorted(found, key=lambda size: size is not None)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
@pytest.mark.parametrize("excess", [1, 0x7FFFFF00])
def test_chunks_that_are_longer_than_the_file_have_no_size(kind: bytes, excess: int) -> None:
    """OpenCV would take the memory for them: 2 GB for a PNG of a hundred bytes."""
    data = encode(".png", 5, 7)
    start = data.index(kind) - 4
    longer = struct.pack(">I", struct.unpack_from(">I", data, start)[0] + excess)
    assert find_size(data) == Size(7, 5)
    assert find_size(data[:start] + longer + data[start + 4 :]) is None


def test_what_follows_a_picture_does_not_matter() -> None:
    """Some programs write more behind it."""
    for extension in WRITTEN:
        assert find_size(encode(extension, 5, 7) + b"\n\xff\xff\xff\xffIDAT") == Size(7, 5)


@given(st.sampled_from(MAGIC), st.binary())
def test_any_bytes_have_a_size_or_none(magic: bytes, data: bytes) -> None:
    """Nothing is raised, and no size is negative."""
    size = find_size(magic + data)
    assert size is None or min(size) >= 0


@given(st.sampled_from(WRITTEN), st.binary(min_size=1, max_size=4), st.integers(0, 60))
def test_no_decoded_picture_is_larger_than_its_header_says(extension: str, patch: bytes, at: int) -> None:
    """Whatever is changed in a header: what OpenCV allocates was known before."""
    data = bytearray(encode(extension, 5, 7))
    data[at : at + len(patch)] = patch
    size = find_size(bytes(data))
    if size is None or size.width * size.height > 1 << 16:
        return
    try:
        picture = cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return
    if picture is not None:
        assert picture.shape[0] * picture.shape[1] <= size.width * size.height
