"""What systemd and this server say to each other, by variables of the environment.

See sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). These protocols are a few lines, and are kept stable by systemd;
the libraries for them want its C library.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

FIRST_DESCRIPTOR: Final = 3


def take_sockets(environment: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets that systemd has opened for this process and listens on; processes that it starts do not see them.

    Args:
        environment: of the process; ``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES`` are taken out of it.
        pid: of the process.
    """
    meant_for, count, _ = (environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if meant_for != str(pid) or not count.isdecimal():
        return []
    return [socket.socket(fileno=FIRST_DESCRIPTOR + index) for index in range(int(count))]


def notify(environment: Mapping[str, str], *news: str) -> None:
    """Tell systemd, if it wants to know: ``READY=1``, ``STOPPING=1``. Does not wait; who cannot be told is not told."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        try:
            line.sendto("\n".join(news).encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return


def watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """After how many seconds without a sign of life systemd ends this process; None if it does not watch it."""
    micros = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid) or not micros.isdecimal():
        return None
    return int(micros) / 1e6 or None


async def tell_alive(environment: Mapping[str, str], pid: int) -> None:
    """Tell systemd again and again that the loop goes on, if it watches this process."""
    limit_s = watchdog_s(environment, pid)
    while limit_s is not None:
        notify(environment, "WATCHDOG=1")
        await asyncio.sleep(limit_s / 2)
