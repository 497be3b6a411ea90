"""Sockets that are bound to a path, for clients on the same machine; and what is said of any that cannot be bound."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Final

from tornado.netutil import bind_unix_socket

log = logging.getLogger("serving")

_HINTS: Final = {
    errno.EADDRINUSE: "; is another server listening there?",
    errno.EADDRNOTAVAIL: "; rest_bind_address has to be an address of this machine",
    errno.EACCES: "; ports below 1024, and folders of others, need rights that this user does not have",
    errno.ENOENT: "; the folder of a Unix socket has to exist",
}

BACKLOG: Final = 1024
"""So many connections wait in the kernel to be taken up. A burst that has no room there is dropped: its clients try again after a
second, and then after two more. Tornado's own 128 was too few for a thousand clients at once."""

MODE: Final = 0o660
"""The user's and the group's; whoever may use the socket needs no place in a network."""


def bind_path(path: str) -> socket.socket:
    """Listen at a path, which stays when the server has gone: it is removed by the next one. Does not wait.

    Raises:
        OSError: it cannot be bound, or another server listens there, of whatever kind.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            pass  # nobody listens; what is no socket refuses, too
        except BlockingIOError as error:
            raise OSError(errno.EADDRINUSE, "another server listens there, and is busy") from error
        else:
            raise OSError(errno.EADDRINUSE, "another server listens there")
    try:
        return bind_unix_socket(path, MODE, BACKLOG)
    except ValueError as error:  # it exists, and is no socket
        raise OSError(errno.EEXIST, str(error)) from error


def tell_refusal(place: str, error: OSError) -> None:
    """Log that a port or path cannot be listened on."""
    log.error("Failed to start REST server - at %s", place)
    log.error("%s%s", error.strerror or error, _HINTS.get(error.errno or 0, ""))
