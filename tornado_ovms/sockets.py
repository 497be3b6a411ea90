"""Listening sockets: bound to a path, for clients on the same machine; what is said if they cannot be bound; how they end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import socket
import struct
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


_SO_ATTACH_FILTER: Final = 26
_DROP_SYN: Final = (  # code, jump if so, jump if not, number: linux/filter.h
    (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
    (0x45, 0, 1, 0x02),  # is SYN one of them?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # take it
)


def hold_off(listening: socket.socket) -> None:
    """Let no more TCP connections begin, while those that have begun come as usual. It holds for all who share the socket.

    A socket that is closed resets connections which nobody has accepted, and some come between the last look and the close. Those
    that are held off are begun again by the client's system, a second later, with whoever listens then. Where the system has no
    such filters, nothing happens.
    """
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN))
    with contextlib.suppress(OSError):
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(program))
        )


def tell_refusal(place: str, error: OSError) -> None:
    """Log that a port or path cannot be listened on."""
    log.error("Failed to start REST server - at %s", place)
    log.error("%s%s", error.strerror or error, _HINTS.get(error.errno or 0, ""))
