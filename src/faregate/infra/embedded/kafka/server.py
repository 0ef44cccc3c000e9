"""One Kafka node on this machine: make its storage, start, recover, stop.

Whoever starts or stops it holds the guard of the home; that is not this module's business.
"""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from faregate.infra.embedded import processes
from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.kafka import node
from faregate.infra.embedded.kafka.ports import HOST, steady_port

if TYPE_CHECKING:
    from faregate.infra.embedded.kafka.installation import Installation

START_TIMEOUT_S: Final = 120.0  # after a crash the open segments are read again
STOP_TIMEOUT_S: Final = 30.0
ANSWER_TIMEOUT_S: Final = 1.0

_UNFINISHED: Final = "unfinished-"
_PID_FILE: Final = "kafka.pid"
# The shell becomes the node and keeps its process id: no moment lies between the start and the note of it.
_NOTE_PID_AND_BECOME: Final = ("/bin/sh", "-c", f'echo $$ >{_PID_FILE} && exec "$@"', "sh")
# A request for metadata, version 1, without topics: the answer counts the nodes that are ready.
_WHO_IS_READY: Final = struct.pack(">ihhihi", 14, 3, 1, 0, -1, 0)
_HOW_MANY: Final = struct.Struct(">iii")


class KafkaServer:
    """One data folder and the node on it, which listens on the loopback address only.

    Whoever may use this machine may use it: it asks nobody who he is.
    """

    def __init__(
        self,
        *,
        folder: Path,
        installed: Callable[[], Installation],
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = (),
        end_with_us: bool = False,
    ) -> None:
        self.folder = folder
        self.log = folder.with_name("kafka.log")
        self.address_file = folder.with_name("kafka.address")
        self._installed = installed
        self._settings = settings or {}
        self._java_options = java_options
        self._end_with_us = end_with_us

    def bootstrap(self) -> str:
        """Its address, host:port. It stays the same over restarts, unless somebody else took the port meanwhile."""
        try:
            return self.address_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise EmbeddedServerError(f"Kafka was never started in {self.folder.parent}") from None

    def pid(self) -> int | None:
        """The node's pid if it runs."""
        pid = processes.pid_in(self.folder / _PID_FILE)
        return pid if pid and processes.works_in(pid, folder=self.folder) else None

    def ensure_running(self) -> None:
        """Start the node if it does not run, and wait until it answers; make its storage if there is none."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self._settles():
            return
        installed = self._installed()
        self._clear_crash()
        if not (self.folder / node.DATA).exists():
            self._make_storage(installed.checkpoint)
        self._start(installed)

    def stop(self) -> None:
        """End the node in order: everything is written, and the next start recovers nothing."""
        pid = self.pid()
        if pid is not None:
            processes.end(pid, first=signal.SIGTERM, timeout_s=STOP_TIMEOUT_S, name="Kafka")

    def _settles(self) -> bool:
        """Wait for what is under way, a start or an end; true when a node answers after it."""
        processes.wait_for(lambda: self.pid() is not None or not self._left(), timeout_s=STOP_TIMEOUT_S)
        processes.wait_for(lambda: self.pid() is None or self._answers(), timeout_s=START_TIMEOUT_S)
        return self._answers()

    def _left(self) -> list[int]:
        return processes.working_in(self.folder, program="java")

    def _clear_crash(self) -> None:
        for hanging in self._left():
            processes.end(hanging, first=signal.SIGKILL, timeout_s=STOP_TIMEOUT_S, name="Kafka")
        (self.folder / _PID_FILE).unlink(missing_ok=True)
        for litter in (self.folder / node.SCRATCH, *self.folder.glob(f"{_UNFINISHED}*")):
            shutil.rmtree(litter, ignore_errors=True)
        (self.folder / node.SCRATCH).mkdir(mode=0o700)

    def _make_storage(self, checkpoint: Path) -> None:
        """Make it under another name first: a kill in the middle leaves no half of one."""
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.folder))
        shutil.copyfile(checkpoint, unfinished / checkpoint.name)
        identity = node.identity(cluster=node.new_id(), directory=node.new_id())
        (unfinished / "meta.properties").write_text(identity, encoding="ascii")
        unfinished.rename(self.folder / node.DATA)

    def _start(self, installed: Installation) -> None:
        port = self._choose_port()
        controller_port = steady_port(but_not=port)
        text = node.properties(self._settings, port=port, controller_port=controller_port)
        (self.folder / node.PROPERTIES).write_text(text, encoding="utf-8")
        said_before = self.log.stat().st_size if self.log.exists() else 0
        pid = processes.spawn(
            [*_NOTE_PID_AND_BECOME, *installed.command(*node.PROGRAM, options=self._java_options)],
            folder=self.folder,
            log=self.log,
            environment=installed.environment(),
            end_with_us=self._end_with_us,
            farewell=signal.SIGTERM,  # where SIGINT was ignored when we began, Java ignores it too
        )
        processes.wait_for(lambda: self._answers() or not processes.is_alive(pid), timeout_s=START_TIMEOUT_S)
        if not self._answers():
            processes.end(pid, first=signal.SIGKILL, timeout_s=STOP_TIMEOUT_S, name="Kafka")
            raise EmbeddedServerError(f"Kafka did not start: {_reason(self.log, since=said_before)}")

    def _choose_port(self) -> int:
        """The port of last time if it is free; noted before the start, so that others find it."""
        last = self.bootstrap().rpartition(":")[2] if self.address_file.exists() else ""
        port = steady_port(preferred=int(last) if last.isdigit() else None)
        new = self.address_file.with_suffix(".new")
        new.write_text(f"{HOST}:{port}\n", encoding="ascii")
        new.replace(self.address_file)
        return port

    def _answers(self) -> bool:
        """Whether the node names itself as ready."""
        if self.pid() is None or not self.address_file.exists():
            return False
        host, _, port = self.bootstrap().partition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_S) as connection:
                connection.sendall(_WHO_IS_READY)
                answer = connection.recv(_HOW_MANY.size, socket.MSG_WAITALL)
        except OSError:
            return False
        return len(answer) == _HOW_MANY.size and _HOW_MANY.unpack(answer)[2] > 0


def _reason(log: Path, *, since: int) -> str:
    """The last error that the log holds of this start, else its last lines."""
    if not log.exists():
        return "it said nothing"
    with log.open("rb") as file:
        file.seek(since if log.stat().st_size >= since else 0)
        lines = file.read().decode(errors="replace").splitlines()
    errors = [
        line for line in lines if not line.startswith("\t") and ("Exception" in line or "Error" in line)
    ]
    return (errors or lines or ["it said nothing"])[-1]
