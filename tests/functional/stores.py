"""Object stores as processes of their own, which speak the protocols of Amazon, Google and Azure on a loopback port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from adlfs import AzureBlobFileSystem
from gcsfs.core import GCSFileSystem
from s3fs import S3FileSystem

from tests import models
from tests.functional.servers import free_port, until
from tornado_ovms.storage.listings import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    import openvino as ov
    from typing_extensions import Self

BUCKET = "models"

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Known to everybody: those of Azure's own emulator."""


class Store:
    """A store with one bucket, running inside a ``with`` block; it forgets everything when it is stopped.

    Attributes:
        url: of the bucket.
        environment: what a client has to know.
    """

    make: ClassVar[Callable[..., Any]] = S3FileSystem
    url = f"s3://{BUCKET}"

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self._log = log
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: Mapping[str, str] = {
            "S3_ENDPOINT": f"127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "a-secret-that-no-log-has",
            "AWS_REGION": "eu-west-1",
        }

    def command(self) -> Sequence[str]:
        """What starts it."""
        return sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)

    def options(self) -> dict[str, Any]:
        """What a client of fsspec has to be told."""
        return {
            "key": "somebody",
            "secret": "anything",
            "endpoint_url": f"http://127.0.0.1:{self.port}",
            "client_kwargs": {"region_name": "eu-west-1"},
        }

    def __enter__(self) -> Self:
        """Start it, and make the bucket."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def start(self) -> None:
        """Start it; it is empty."""
        self._output = self._log.open("ab")
        self._process = subprocess.Popen(
            self.command(), stdout=self._output, stderr=self._output, stdin=subprocess.DEVNULL
        )
        until(self._answers)
        self.client = self.make(use_listings_cache=False, skip_instance_cache=True, **self.options())
        self.client.mkdir(BUCKET)

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None and self._output is not None:
            self._process.kill()
            self._process.wait()
            self._output.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def put(self, path: str, model: ov.Model, aside: Path) -> None:
        """Upload a model's files, the weights first."""
        models.save(model, aside)
        for file in sorted(aside.iterdir()):
            self.write(f"{path}/{file.name}", file.read_bytes())

    def write(self, path: str, content: bytes) -> None:
        """Upload a file."""
        self.client.pipe_file(f"{BUCKET}/{path}", content)

    def remove(self, path: str) -> None:
        """Remove a file, or all below."""
        self.client.rm(f"{BUCKET}/{path}", recursive=True)


class Google(Store):
    """Google Cloud Storage."""

    make = GCSFileSystem
    url = f"gs://{BUCKET}"

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.environment = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{self.port}"}

    def command(self) -> Sequence[str]:
        """See ``Store``."""
        script = "from gcp_storage_emulator.__main__ import main; main()"
        return sys.executable, "-c", script, "start", "--host", "127.0.0.1", "--port", str(self.port), "--in-memory"

    def options(self) -> dict[str, Any]:
        """See ``Store``."""
        return {"token": "anon", "endpoint_url": f"http://127.0.0.1:{self.port}", "project": "test"}


class Azure(Store):
    """Azure Blobs, in Microsoft's emulator."""

    make = AzureBlobFileSystem
    url = f"az://{BUCKET}"

    def __init__(self, log: Path, program: str) -> None:
        super().__init__(log)
        self._program = program
        self._told = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{self.port}/{AZURE_ACCOUNT};"
        )
        self.environment = {"AZURE_STORAGE_CONNECTION_STRING": self._told}

    def command(self) -> Sequence[str]:
        """See ``Store``."""
        place = ("--blobHost", "127.0.0.1", "--blobPort", str(self.port))
        return self._program, *place, "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"

    def options(self) -> dict[str, Any]:
        """See ``Store``."""
        return {"connection_string": self._told}


def copies(folder: Path) -> list[Path]:
    """The files of versions that servers have copied, if that is their temporary folder."""
    root = folder / f"tornado-ovms-{os.geteuid()}"
    found = (Path(place, name) for place, _, names in os.walk(root) for name in names)  # also if folders go meanwhile
    return [path for path in found if path.name != NAME]
