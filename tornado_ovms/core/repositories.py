"""Model repositories by their base path: where they are, and which versions they hold. Pure; any thread.

The prefixes are the reference's (``docs/models_repository_classic.md``, ``src/s3filesystem.cpp``); archives are ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from tornado_ovms.core.paths import climbs
from tornado_ovms.core.status import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INT64_MAX: Final = 2**63 - 1

ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz")
"""Endings of the archives that are read."""

MAX_FILES: Final = 10_000
"""Files of one version, or of one archive: models have a few, and each costs a request."""

MAX_REASON: Final = 300
"""Characters of a library's message that are told."""

OUT_OF_RANGE: Final = "Directory name is out of range for supported version format."

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST: Final = re.compile(r"[0-9A-Za-z.-]+:[0-9]+")
_AUTHORITY: Final = re.compile(r"([^/?#]*@)?(\[[0-9A-Fa-f:.]+\]|[^/?#:@\[\]]+)(:[0-9]+)?(?=[/?#])")
_VERSION: Final = re.compile(r"[1-9][0-9]*", re.ASCII)
_UNCLEAR: Final = re.compile(r"(?<=://)[^\s?]*\?\S*@\S*")
"""Either the password has a question mark, or the query an at sign."""
_USER: Final = re.compile(r"(?<=://)\S*@")
_QUERY: Final = re.compile(r"\?[^\s'\"]+")


class Address(NamedTuple):
    """Where a repository is.

    Attributes:
        scheme: ``s3``, ``gs``, ``az``, ``http`` or ``https``.
        endpoint: ``host:port`` of a store that is not the provider's own; else empty.
        path: bucket and prefix, without slashes around; of an archive the whole URL.
    """

    scheme: str
    endpoint: str
    path: str


class Item(NamedTuple):
    """A file in a store: its name below the repository, its size in bytes, and a number that changes with its content.

    ``md5`` is that of its content in hexadecimal, where the store tells it; ``changed_s`` counts from 1970, 0 if unknown.
    """

    name: str
    size: int
    stamp: int
    md5: str = ""
    changed_s: float = 0.0


def is_remote(base_path: str) -> bool:
    """Whether a base path is a URL.

    >>> is_remote("s3://bucket/model"), is_remote("/models/s3")
    (True, False)
    """
    return _SCHEME.match(base_path) is not None


def parse_address(base_path: str) -> Address:
    """Read a URL.

    >>> parse_address("s3://minio:9000/bucket/resnet/")
    Address(scheme='s3', endpoint='minio:9000', path='bucket/resnet')

    Raises:
        Failure: PATH_INVALID if it climbs, names no bucket or no host, or an archive of another kind; NOT_SUPPORTED_HERE
            for any other scheme.
    """
    scheme, _, rest = base_path.partition("://")
    scheme = scheme.lower()
    shown = scrub(base_path)
    if climbs(rest):
        raise Failure(Code.PATH_INVALID, f"Path {shown} escape with .. is forbidden.")
    if scheme in ("http", "https"):
        if not _AUTHORITY.match(rest):  # who opens it would tell a part of the password as a strange port
            raise Failure(
                Code.PATH_INVALID, f"{shown}: expected host or host:port; in a password / is %2F, ? is %3F, # is %23"
            )
        if not re.split(r"[?#]", rest)[0].lower().endswith(ARCHIVES):
            raise Failure(Code.PATH_INVALID, f"{shown}: expected an archive ({', '.join(ARCHIVES)})")
        return Address(scheme, "", base_path)
    if scheme == "azfs":
        raise Failure(Code.NOT_SUPPORTED_HERE, f"{shown}: Azure Files; blobs are read, as az://container/path")
    if scheme not in ("s3", "gs", "az"):
        raise Failure(
            Code.NOT_SUPPORTED_HERE, f"{shown}: expected a folder or s3://, gs://, az://, http:// or https://"
        )
    parts = [part for part in rest.split("/") if part]
    endpoint = parts.pop(0) if scheme == "s3" and parts and _HOST.fullmatch(parts[0]) else ""
    if not parts:
        raise Failure(Code.PATH_INVALID, f"{shown}: expected the name of a bucket or container")
    return Address(scheme, endpoint, "/".join(parts))


def scrub(text: str) -> str:
    """A text without what may be secret in its URLs: names and passwords, and queries, which may be signatures.

    A password may have any character, also one that should have been written otherwise.

    >>> scrub("https://me:secret@host/m.zip?sig=abc failed")
    'https://***@host/m.zip?*** failed'
    """
    return _QUERY.sub("?***", _USER.sub("***@", _UNCLEAR.sub("***", text)))


def reason(error: BaseException) -> str:
    """What a library says, in one line without secrets. What it says below that differs each time: ids, times."""
    lines = str(error).strip().splitlines()
    told = scrub(lines[0] if lines else "")[:MAX_REASON]
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def is_grave(fault: str) -> bool:
    """Whether what ``version_fault`` says is an error in the log and not a warning, as in the reference."""
    return fault.startswith(OUT_OF_RANGE)


def version_fault(name: str) -> str:
    """Why a folder is no version, in the reference's words; empty if it is one."""
    if not re.fullmatch(r"-?[0-9]+", name, re.ASCII):
        return f"Expected version directory name to be in number format. Got: {name}"
    if not _VERSION.fullmatch(name):
        return f"Expected version directory name to be a number greater than 0. Got: {name}"
    if int(name) > INT64_MAX:
        return f"{OUT_OF_RANGE} Got: {name}"
    return ""


def is_safe(name: str) -> bool:
    """Whether a file of that name stays below the folder that it is written to.

    >>> is_safe("1/model.xml"), is_safe("1/../../etc/passwd"), is_safe("/etc/passwd"), is_safe("1//model.xml")
    (True, False, False, False)
    """
    return all(part not in ("", ".", "..") for part in name.split("/")) and not re.search(r"[\\\x00]", name)


def sort_out(items: Iterable[Item]) -> tuple[Mapping[int, list[Item]], list[str]]:
    """The files of each version, by names below its folder and in their order, and warnings about other folders.

    A version with a name that climbs, or with too many files, is left out as a whole.
    """
    versions: dict[int, list[Item]] = {}
    warnings: dict[str, None] = {}
    for item in sorted(items):
        folder, slash, name = item.name.partition("/")
        if not slash:
            continue
        if warning := version_fault(folder):
            warnings[warning] = None
            continue
        versions.setdefault(int(folder), []).append(item._replace(name=name))
    for number, files in list(versions.items()):
        if unsafe := next((item.name for item in files if not is_safe(item.name)), None):
            warnings[f"Version {number} is left out: the name of a file leads out of it: {unsafe!r}"] = None
            del versions[number]
        elif len(files) > MAX_FILES:
            warnings[f"Version {number} is left out: it has more than {MAX_FILES} files"] = None
            del versions[number]
    return versions, list(warnings)
