"""What a start of Kafka needs on this machine: Java, the jars, a formatted storage, classes that load quickly.

All of it is made once and kept in the user's cache, for all homes. Running a node does not belong here.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from faregate.infra.embedded import processes
from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.kafka import node
from faregate.infra.embedded.kafka.artifacts import Say, cache_folder, ensure_jars
from faregate.infra.embedded.kafka.programs import java_program
from faregate.infra.embedded.kafka.server import KafkaServer
from faregate.infra.embedded.locks import exclusive

ARCHIVE_TIMEOUT_S: Final = 120.0
_QUIET: Final = "-Xlog:disable"
# What Java takes from there was meant for other programs; a debugger would even hold the start.
_NOT_FOR_KAFKA: Final = frozenset({"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"})


@dataclass(frozen=True, slots=True)
class Installation:
    """Where everything is. `checkpoint` begins a storage; `classes` may not exist: a start is slower then."""

    java: Path
    jars: tuple[Path, ...]
    checkpoint: Path
    classes: Path | None

    def command(self, *program: str, options: Sequence[str] = ()) -> list[str]:
        """The command line that runs a program of Kafka's."""
        quick = [f"-XX:SharedArchiveFile={self.classes}", _QUIET] if self.classes else []
        return [str(self.java), *node.java_options(), *quick, *options, *program]

    def environment(self) -> Mapping[str, str]:
        """Ours, with the jars and without what would change any Java."""
        kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_KAFKA}
        return {**kept, "CLASSPATH": os.pathsep.join(map(str, self.jars))}


def ensure_installed(*, say: Say = lambda _: None) -> Installation:
    """Return what a start needs; the first time it is fetched and made, which `say` is told.

    Raises JavaMissing, MavenMissing, KafkaNotFetched or KafkaJarsRefused. Several processes may do so at once.
    """
    java = java_program()
    jars, cache = ensure_jars(say=say), cache_folder()
    checkpoint, classes = cache / "bootstrap.checkpoint", cache / f"classes-{_name_of(java)}.jsa"
    installed = Installation(java=java, jars=jars, checkpoint=checkpoint, classes=classes)
    if checkpoint.exists() and classes.exists():
        return installed
    bare = replace(installed, classes=None)
    with exclusive(cache / "prepare.lock"):
        if not checkpoint.exists():
            _format(bare)
        if not classes.exists():
            say("a first start notes the classes that it loads, which makes later starts twice as quick")
            _archive_classes(bare, classes)
    return installed if classes.exists() else bare


def _format(installed: Installation) -> None:
    """Let Kafka format a storage, and keep the file with which it begins: each home gets a copy, and ids of its own."""
    with tempfile.TemporaryDirectory(prefix="faregate-kafka-") as name:
        folder = Path(name)
        (folder / node.SCRATCH).mkdir()
        (folder / node.PROPERTIES).write_text(node.properties({}, port=1, controller_port=2))
        command = installed.command(
            *("kafka.tools.StorageTool", "format", "--config", node.PROPERTIES),
            *("--cluster-id", node.new_id()),
        )
        environment = installed.environment()
        done = subprocess.run(  # noqa: S603 - our own jars
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EmbeddedServerError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
        unfinished = installed.checkpoint.with_suffix(".unfinished")
        unfinished.write_bytes((folder / node.DATA / installed.checkpoint.name).read_bytes())
        unfinished.rename(installed.checkpoint)


def _archive_classes(installed: Installation, classes: Path) -> None:
    """Run a node until it answers, and let its Java write down its classes when it ends.

    An archive that did not become whole is not kept: nothing but the time of starts depends on it.
    """
    unfinished = classes.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="faregate-kafka-") as folder:
        server = KafkaServer(
            folder=Path(folder) / "kafka",
            installed=lambda: installed,
            java_options=(f"-XX:ArchiveClassesAtExit={unfinished}", _QUIET),
            end_with_us=True,
        )
        server.ensure_running()
        if pid := server.pid():
            processes.end(pid, first=signal.SIGTERM, timeout_s=ARCHIVE_TIMEOUT_S, name="Kafka")
    check = (f"-XX:SharedArchiveFile={unfinished}", "-XX:+VerifySharedSpaces", "-Xshare:on", "-version")
    whole = subprocess.run(  # noqa: S603 - our own jars
        installed.command(*check), env=installed.environment(), capture_output=True, check=False
    )
    if whole.returncode == 0:
        unfinished.rename(classes)
    unfinished.unlink(missing_ok=True)


def _name_of(java: Path) -> str:
    """A name for this very Java: another one, or a newer one in its place, cannot use its archive."""
    program = java.resolve()
    return hashlib.sha256(f"{program} {program.stat().st_mtime_ns}".encode()).hexdigest()[:12]
