"""Authorities and certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STRICT: Final = ("authorityKeyIdentifier=keyid", "basicConstraints=critical,CA:FALSE")
"""What clients in Python 3.13 want of a certificate (RFC 5280 §4.2)."""


class Authority:
    """A certificate authority that lasts for a day.

    Args:
        openssl: the program.
        folder: where its files are written.
        name: of the authority, and of its files.
    """

    def __init__(self, openssl: str, folder: Path, name: str) -> None:
        self._openssl = openssl
        self._folder = folder
        self.name = name
        self.certificate, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        self._run(
            "req", "-x509", "-days", "1", "-subj", f"/CN={name}", "-out", self.certificate,
            "-addext", "keyUsage=critical,keyCertSign,cRLSign", *_new_key(self._key),
        )  # fmt: skip

    def issue(self, name: str, extensions: Sequence[str] = STRICT) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1, with more extensions, and its key."""
        certificate, key, request = (self._folder / f"{self.name}-{name}.{kind}" for kind in ("crt", "key", "csr"))
        self._run("req", "-subj", f"/CN={name}", "-out", request, *_new_key(key))
        wanted = self._folder / "extensions"
        wanted.write_text("\n".join(("subjectAltName=IP:127.0.0.1", *extensions)), "utf-8")
        self._run(
            "x509", "-req", "-days", "1", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-extfile", wanted, "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def _run(self, *words: str | Path) -> None:
        subprocess.run([self._openssl, *map(str, words)], check=True, capture_output=True)


def _new_key(path: Path) -> tuple[str | Path, ...]:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path
