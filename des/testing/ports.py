"""Ports for servers that go away and come back at the same address."""

import secrets
import socket
from pathlib import Path
from typing import Final

_RANGE_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_RANGE: Final = (32768, 60999)
_LOWEST: Final = 10_000  # below are ports that other servers of a machine are given by hand
_TRIES: Final = 1000


def free_port() -> int:
    """Return a port of loopback that nobody listens on, and that the system gives to no connection.

    One of the range for connections ("ephemeral") may be taken by any of them while its server is away, even
    by a client that tries to reach that server.

    Raises:
        OSError: every port that was tried is taken.
    """
    lowest, highest = _for_connections()
    ports = [*range(_LOWEST, lowest), *range(highest + 1, 1 << 16)]
    for _ in range(_TRIES):
        port: int = secrets.choice(ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port free on 127.0.0.1 among {len(ports)} ports outside {lowest} to {highest}")


def _for_connections() -> tuple[int, int]:
    try:
        lowest, highest = _RANGE_FILE.read_text().split()
    except OSError:
        return _USUAL_RANGE
    return int(lowest), int(highest)
