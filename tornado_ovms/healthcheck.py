"""``tornado-ovms --healthcheck``: asks a running server whether it is ready, for the health checks of containers.

An image without curl can check itself so. The port is that of ``--rest_port``, else that of process 1's command line, which in a
container is the server's. Main thread.
"""

from __future__ import annotations

import http.client
import ssl
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tornado_ovms.core.arguments import UsageError, parse
from tornado_ovms.core.checks import rest_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tornado_ovms.core.arguments import Arguments

TIMEOUT_S: Final = 5.0

FIRST_PROCESS: Final = Path("/proc/1/cmdline")

LOCAL: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses that stand for all, and one of them


def check(arguments: Arguments, first_process: Path = FIRST_PROCESS) -> int:
    """Ask, and say what is wrong on stderr; the exit code: 0 if the server is ready, 1 if not.

    Args:
        arguments: the command line.
        first_process: where the words of process 1 are.
    """
    if not rest_port(arguments):
        arguments = _arguments_of(first_process) or arguments
    port = rest_port(arguments)
    if not port:
        print("healthcheck: there is no --rest_port, and process 1 is no tornado-ovms that has one", file=sys.stderr)
        return 1
    address = arguments.text("rest_bind_address").split(",")[0]
    try:
        trouble = _ask(LOCAL.get(address, address), port, _context(arguments))
    except OSError as error:
        trouble = f"{arguments.text('tls_certificate')} or its key cannot be read: {error.strerror}"
    if trouble:
        print(f"healthcheck: {trouble}", file=sys.stderr)
    return 1 if trouble else 0


def _arguments_of(process: Path) -> Arguments | None:
    """The command line of a process, if it is one of ours: the words from the first option on."""
    try:
        words = process.read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
    except OSError:
        return None
    # "--" alone ends the options of an init such as tini: the server's come behind it.
    first = next((index for index, word in enumerate(words) if word.startswith("--") and word != "--"), len(words))
    return _parse(words[first:])


def _parse(words: Sequence[str]) -> Arguments | None:
    try:
        return parse(words)
    except UsageError:
        return None


def _context(arguments: Arguments) -> ssl.SSLContext | None:
    """What a server with a certificate is asked with; None for one without.

    It asks itself, so that no authority has to vouch for it; where clients need certificates it shows its own.
    """
    certificate = arguments.text("tls_certificate")
    if not certificate:
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if arguments.text("tls_client_ca"):
        context.load_cert_chain(certificate, arguments.text("tls_key") or certificate)
    return context


def _hangs_up(error: Exception) -> bool:
    """Whether it is what a server does with somebody who does not speak TLS."""
    return isinstance(error, (ConnectionResetError, http.client.RemoteDisconnected))


def _ask(host: str, port: int, context: ssl.SSLContext | None) -> str:
    """What is wrong; empty if the server is ready."""
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/v2/health/ready")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        advice = "; if it speaks HTTPS, say so by --tls_certificate" if context is None and _hangs_up(error) else ""
        return f"{host}:{port} does not answer: {error}{advice}"
    finally:
        connection.close()
    return "" if answer.status == HTTPStatus.OK else f"{host}:{port} answers {answer.status}: {text}"
