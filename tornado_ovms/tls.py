"""TLS: the certificate, and which clients are let in."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from tornado_ovms.core.settings import TlsSettings

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """What new connections are made with. Blocks: reads files.

    Ciphers and curves are those of Python's default for servers (``ssl.create_default_context``). Certificates of clients are
    checked as OpenSSL does it by itself: since Python 3.13 the default also asks for extensions of RFC 5280 that certificates of
    one's own authority often lack, and no other server does.

    TLS 1.3 goes without session tickets. They are written when the handshake is over, and if the client has gone by then, OpenSSL
    leaves the error in its queue, where Python finds it at the next read of another connection, and ends that one
    (CPython issue 148594, seen with OpenSSL 3.5). Tickets would be of little use: each worker has keys of its own.

    Raises:
        OSError: a file cannot be read, or what it holds is no certificate or key, or they do not belong together.
        ValueError: the key asks for a password.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = VERSIONS[settings.min_version]
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    certificate, key, authorities = settings.certificate, settings.key, settings.client_ca
    for path in (certificate, key, authorities):
        _check(path)
    try:
        context.load_cert_chain(certificate, key, _refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OSError(f"the key in {key} does not belong to the certificate in {certificate}") from error
        advice = "; the key may have a file of its own (tls_key)" if key == certificate else ""
        raise OSError(f"expected a certificate in {certificate} and its key in {key}, both as PEM{advice}") from error
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError as error:
            raise OSError(f"expected certificates of authorities in {authorities}, as PEM") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check(path: str | None) -> None:
    """That a file can be read: the library does not tell which of them cannot."""
    if path is not None:
        try:
            with open(path, "rb"):  # noqa: PTH123 - as the settings have it
                pass
        except OSError as error:
            raise OSError(f"{path}: {error.strerror}") from error


def _refuse_password() -> NoReturn:
    """OpenSSL would ask on the terminal, and wait."""
    raise ValueError("the key is encrypted: expected one without a password")
