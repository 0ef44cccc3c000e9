"""Ports for a server that others reach by a fixed address, and that comes back at the same one after a crash."""

from __future__ import annotations

import random
import socket
from typing import Final

from faregate.infra.embedded.errors import EmbeddedServerError

HOST: Final = "127.0.0.1"
# Below the ephemeral ports of all common systems: while a server is down, none of its clients can be given its
# port for a connection of its own, and then hold it against the server.
_PORTS: Final = range(20_000, 32_000)
_ATTEMPTS: Final = 100
_draw = random.SystemRandom()


def steady_port(*, preferred: int | None = None, but_not: int | None = None) -> int:
    """Return the preferred port if nobody listens on it, else a free one that is not ephemeral."""
    for port in (*filter(None, (preferred,)), *(_draw.choice(_PORTS) for _ in range(_ATTEMPTS))):
        if port != but_not and is_free(port):
            return port
    raise EmbeddedServerError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the machine's own address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
