"""Base paths that are URLs, and what the files of a store make."""

from __future__ import annotations

import pytest

from tornado_ovms.core.repositories import Address, Item, parse_address, reason, scrub, sort_out
from tornado_ovms.core.status import Code, Failure


@pytest.mark.parametrize(
    ("base_path", "expected"),
    [
        ("s3://bucket", Address("s3", "", "bucket")),
        ("s3://bucket/a/b/", Address("s3", "", "bucket/a/b")),
        ("s3://minio:9000/bucket/a", Address("s3", "minio:9000", "bucket/a")),
        ("gs://bucket/a", Address("gs", "", "bucket/a")),
        ("az://container/a", Address("az", "", "container/a")),
        ("https://host/a.TGZ?sig=x", Address("https", "", "https://host/a.TGZ?sig=x")),
        ("http://me:p%2F@[::1]:80/a.tar", Address("http", "", "http://me:p%2F@[::1]:80/a.tar")),
    ],
)
def test_urls_are_read(base_path: str, expected: Address) -> None:
    """The host of a store is told from a bucket by its port, as in the reference."""
    assert parse_address(base_path) == expected


@pytest.mark.parametrize(
    ("base_path", "code"),
    [
        ("s3://", Code.PATH_INVALID),
        ("s3://minio:9000", Code.PATH_INVALID),
        ("s3://bucket/../other", Code.PATH_INVALID),
        ("http://host/folder", Code.PATH_INVALID),
        ("http:///m.zip", Code.PATH_INVALID),
        ("http://me:p/ss@host/m.zip", Code.PATH_INVALID),
        ("azfs://share/m", Code.NOT_SUPPORTED_HERE),
        ("file:///etc", Code.NOT_SUPPORTED_HERE),
    ],
)
def test_urls_that_are_refused(base_path: str, code: Code) -> None:
    """Each with what was expected."""
    with pytest.raises(Failure) as caught:
        parse_address(base_path)
    assert caught.value.code is code


def test_nothing_secret_is_told() -> None:
    """Whatever stands around it, also in a library's message, of which only the first line counts."""
    assert scrub("GET https://a:b@h/x?sig=1&se=2: no") == "GET https://***@h/x?*** no"
    assert reason(ValueError("at https://a:b@h/x?sig=1\nRequestId: 7")) == "ValueError: at https://***@h/x?***"
    assert reason(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:p/ss@host/m.zip", "https://***@host/m.zip"),
        ("https://me:p#ss@host/m.zip", "https://***@host/m.zip"),
        ("https://me:p@ss@host/m.zip", "https://***@host/m.zip"),
        ("https://me:p?ss@host/m.zip", "https://***"),
        ("https://host/m.zip?sig=p@ss", "https://***"),
        ("https://me:p@host/m.zip?sig=ss", "https://***@host/m.zip?***"),
    ],
)
def test_passwords_that_are_not_quoted(url: str, shown: str) -> None:
    """Are not told either, nor a part of them."""
    assert scrub(f"GET {url} failed") == f"GET {shown} failed"


def test_files_make_versions() -> None:
    """By the folder that they are in; versions with a name that leads out are left out as a whole."""
    names = (
        "1/model.xml",
        "1/sub/data",
        "2/../../x",
        "2/model.xml",
        "3/a\\b",
        "4/a\0",
        "old/model.xml",
        "0/a",
        "readme",
        "5//a",
    )
    versions, warnings = sort_out([Item(name, 1, 1) for name in names])
    assert {number: [item.name for item in files] for number, files in versions.items()} == {
        1: ["model.xml", "sub/data"]
    }
    assert len(warnings) == 6


def test_a_version_of_too_many_files() -> None:
    """Is left out, since each file costs a request."""
    versions, warnings = sort_out([Item(f"1/{number}", 1, 1) for number in range(10_001)])
    assert not versions
    assert warnings == ["Version 1 is left out: it has more than 10000 files"]
