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
    try:
        context.load_cert_chain(settings.certificate, settings.key, _refuse_password)
    except OSError as error:
        raise OSError(f"{settings.certificate} and {settings.key}: {error.strerror or error}") from error
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except OSError as error:
            raise OSError(f"{settings.client_ca}: {error.strerror or error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _refuse_password() -> NoReturn:
    """OpenSSL would ask on the terminal, and wait."""
    raise ValueError("the key is encrypted: expected one without a password")
