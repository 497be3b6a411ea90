"""Object stores (Amazon S3 and its like, Google Cloud Storage, Azure Blobs) through fsspec, which is imported when it is needed.

Calls block until the store has answered, is silent for too long, or ``close`` is called from another thread.
"""

from __future__ import annotations

import asyncio
import base64
import os
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado_ovms.core.repositories import Address, Item

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

CONNECT_S: Final = 5.0
LIST_S: Final = 30.0
"""A listing that takes longer is given up."""

SILENCE_S: Final = 20.0
"""A download of which nothing has come for so long is given up."""

STEP_S: Final = 1.0
"""How often it is looked whether something has come."""

RENEWAL_S: Final = 5.0
"""A client that is refused serves at least so long: another one costs 0.2 s of CPU time."""

UNAUTHORIZED: Final = 401
"""What Google's client tells as the code of an error; Amazon's raises a PermissionError."""


class _Client(NamedTuple):
    """One of fsspec's file systems, and when it was opened."""

    files: Any
    opened_s: float


class ObjectStore:
    """One store: an endpoint with the credentials of the environment, or without any for public buckets.

    Credentials may come later, or change. Clients remember that there were none, so one that is refused is replaced.

    Args:
        address: of any repository in it.

    Raises:
        ImportError: its client library is not installed.
        Exception: whatever the library says of the credentials.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._client = self._open(anonymous=False)
        self._under_way: set[Future[Any]] = set()
        self._is_closed = False

    def list(self, path: str) -> list[Item]:
        """All files below a path; none if it is not there.

        Raises:
            FileNotFoundError: the bucket is not there.
            Exception: whatever the library says.
        """
        begun_s = time.monotonic()
        found = self._ask(lambda files: files._find(path, detail=True), lambda: begun_s, LIST_S)  # noqa: SLF001 - fsspec's asynchronous side
        infos = found.items() if isinstance(found, dict) else ()
        prefix = f"{path}/"
        return [
            _item(name.removeprefix(prefix), info)
            for name, info in infos
            if name.startswith(prefix) and info.get("type") != "directory" and not name.endswith("/")
        ]

    def copy(self, path: str, target: Path) -> None:
        """Copy one file to disk.

        Raises:
            Exception: whatever the library or the disk says; TimeoutError if nothing comes.
        """
        from fsspec.callbacks import Callback  # noqa: PLC0415 - an extra

        class Heard(Callback):  # type: ignore[misc] # it has no annotations
            last_s = time.monotonic()

            def call(self, *_args: Any, **_kwargs: Any) -> None:
                self.last_s = time.monotonic()

        heard = Heard()
        self._ask(
            lambda files: files._get_file(path, str(target), callback=heard),  # noqa: SLF001 - as above
            lambda: heard.last_s,
            SILENCE_S,
        )

    def close(self) -> None:
        """Give up what is under way, and take nothing more. Any thread."""
        self._is_closed = True
        for future in list(self._under_way):
            future.cancel()

    def _ask(
        self, begin: Callable[[Any], Coroutine[Any, Any, Any]], heard_s: Callable[[], float], patience_s: float
    ) -> Any:
        """What the store answers, to another client if need be.

        Args:
            begin: asks a client.
            heard_s: when something has come of the answer.
            patience_s: how long after that more is waited for.
        """
        client = self._client
        while True:
            try:
                return self._wait(begin(client.files), client.files.loop, heard_s, patience_s)
            except Exception as error:
                successor = self._successor(client, error)
                if successor is None:
                    raise
                client = successor

    def _successor(self, client: _Client, error: Exception) -> _Client | None:
        """Which client may get another answer than this error: one without credentials, or with those that are there now."""
        lacks_credentials = type(error).__name__ == "NoCredentialsError"
        is_refused = isinstance(error, PermissionError) or getattr(error, "code", None) == UNAUTHORIZED
        with self._lock:
            if not lacks_credentials and not (is_refused and time.monotonic() - client.opened_s > RENEWAL_S):
                return None
            if client is self._client:  # else another thread was quicker
                self._client = self._open(anonymous=lacks_credentials)
            return self._client

    def _open(self, *, anonymous: bool) -> _Client:
        return _Client(_OPENERS[self._address.scheme](self._address, anonymous=anonymous), time.monotonic())

    def _wait(
        self,
        work: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        heard_s: Callable[[], float],
        patience_s: float,
    ) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, loop)
        self._under_way.add(future)
        try:
            if self._is_closed:  # which may have come before the future was known
                raise CancelledError
            while not wait([future], STEP_S).done:
                if time.monotonic() - heard_s() > patience_s:
                    raise TimeoutError(f"nothing has come for {patience_s:.0f} s")
            return future.result()
        finally:
            future.cancel()
            self._under_way.discard(future)


def _item(name: str, info: dict[str, Any]) -> Item:
    """A file as a listing tells it: each store has names of its own for the same."""
    changed: Any = next((info[key] for key in ("LastModified", "last_modified", "mtime") if info.get(key)), None)
    tag = next((info[key] for key in ("ETag", "etag") if info.get(key)), "")
    stamp = blake2b(f"{tag} {changed}".encode(), digest_size=7).digest()
    md5 = info.get("md5Hash") or getattr(info.get("content_settings"), "content_md5", None) or b""
    # S3's ETag is no MD5 where the bucket is encrypted with a key of its own, and looks the same.
    digest = base64.b64decode(md5).hex() if isinstance(md5, str) else bytes(md5).hex()
    changed_s = changed.timestamp() if hasattr(changed, "timestamp") else 0.0
    return Item(name, int(info["size"]), int.from_bytes(stamp, "big"), digest, changed_s)


def _open_s3(address: Address, *, anonymous: bool) -> Any:
    """As the reference: ``S3_ENDPOINT`` comes before the host in the path, plain HTTP unless it says https."""
    from s3fs import S3FileSystem  # noqa: PLC0415 - an extra

    endpoint = os.environ.get("S3_ENDPOINT") or address.endpoint
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    region = os.environ.get("AWS_REGION")
    return S3FileSystem(
        anon=anonymous,
        endpoint_url=endpoint or None,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": SILENCE_S,
            "retries": {"max_attempts": 1},
            **({"s3": {"addressing_style": "path"}} if endpoint else {}),
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _open_gs(_address: Address, *, anonymous: bool) -> Any:
    """Without credentials gcsfs falls back to public buckets by itself; an emulator (``STORAGE_EMULATOR_HOST``) needs none."""
    import aiohttp  # noqa: PLC0415 - an extra
    from gcsfs.core import GCSFileSystem  # noqa: PLC0415 - an extra; gcsfs itself has one that asks by gRPC what kind the bucket is

    is_emulated = "STORAGE_EMULATOR_HOST" in os.environ and "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ
    return GCSFileSystem(
        token="anon" if anonymous or is_emulated else None,
        requests_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
        session_kwargs={"trust_env": True},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _open_az(_address: Address, *, anonymous: bool) -> Any:  # noqa: ARG001 - adlfs takes it from the environment
    """``AZURE_STORAGE_CONNECTION_STRING``, or the account's name for public containers, which adlfs reads itself, too."""
    from adlfs import AzureBlobFileSystem  # noqa: PLC0415 - an extra

    return AzureBlobFileSystem(
        connection_string=os.environ.get("AZURE_STORAGE_CONNECTION_STRING"),
        connection_timeout=int(CONNECT_S),
        read_timeout=int(SILENCE_S),
        use_listings_cache=False,
        skip_instance_cache=True,
    )


_OPENERS: Final = {"s3": _open_s3, "gs": _open_gs, "az": _open_az}
