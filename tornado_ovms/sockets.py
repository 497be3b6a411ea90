"""Sockets that are bound to a path, for clients on the same machine."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from tornado.netutil import bind_unix_socket

MODE: Final = 0o660
"""The user's and the group's; whoever may use the socket needs no place in a network."""


def bind_path(path: str) -> socket.socket:
    """Listen at a path, which stays when the server has gone: it is removed by the next one.

    Raises:
        OSError: it cannot be bound, or another server listens there.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        if not probe.connect_ex(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    try:
        return bind_unix_socket(path, MODE)
    except ValueError as error:  # it exists, and is no socket
        raise OSError(errno.EEXIST, str(error)) from error
