"""Kafka's jars: fetched by Maven into a cache of the user's, once, and held to the committed hashes each time.

Where Maven looks is a setting of the machine; no address stands here. What runs the jars does not belong here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.kafka.programs import maven_program
from faregate.infra.embedded.locks import exclusive

VERSION: Final = "4.1.1"
SAY_EVERY_S: Final = 10.0
_HERE: Final = Path(__file__).parent
_UNFINISHED: Final = "unfinished-"

Say = Callable[[str], object]


class KafkaJarsRefused(EmbeddedServerError):
    """The jars are not those whose hashes were committed."""


class KafkaNotFetched(EmbeddedServerError):
    """Maven did not bring Kafka."""


def cache_folder() -> Path:
    """Where this version of Kafka is kept for all homes of the user."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    caches = named if named.is_absolute() else Path.home() / ".cache"
    return caches / "faregate" / f"kafka-{VERSION}"


def jars_are_here() -> bool:
    """Whether the jars were fetched already, so that Maven is not needed."""
    return _jars_folder().exists()


def ensure_jars(*, say: Say) -> tuple[Path, ...]:
    """Return the verified jars in the order of the lock file; fetch them first if they are not here.

    Several processes may do so at once: one fetches, the others wait. A kill in the middle leaves nothing that
    would be taken for the jars.
    """
    folder = _jars_folder()
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(folder.parent / "fetch.lock"):
            if not folder.exists():
                _fetch(folder, say=say)
    return verified(folder, locked_hashes())


def locked_hashes() -> Mapping[str, str]:
    """The sha256 of each jar by its name, as committed in the form of `sha256sum`."""
    lines = (_HERE / "jars.sha256").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def verified(folder: Path, hashes: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the jars of the folder; raise KafkaJarsRefused, with the first wrong one's name, unless all are right."""
    found = {path.name for path in folder.iterdir()}
    wrong = {
        **dict.fromkeys(hashes.keys() - found, "is missing"),
        **dict.fromkeys(found - hashes.keys(), "does not belong there"),
        **{
            name: "is not what was locked (its sha256 differs)"
            for name in hashes.keys() & found
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != hashes[name]
        },
    }
    for name, what in sorted(wrong.items()):
        raise KafkaJarsRefused(
            f"{folder / name} {what}: Kafka is not started; remove {folder} to fetch it again"
        )
    return tuple(folder / name for name in hashes)


def _jars_folder() -> Path:
    return cache_folder() / "jars"


def _fetch(folder: Path, *, say: Say) -> None:
    """Let Maven copy the jars into a folder with a new name, which gets its own once they are verified.

    The name is new because the Maven of a killed command may still be writing to its own.
    """
    maven, hashes = maven_program(), locked_hashes()
    for left in folder.parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
    say(f"Maven fetches Kafka {VERSION}, once: {len(hashes)} jars into {folder}")
    try:
        _run(
            [
                *(str(maven), "--quiet", "--batch-mode", "--file", str(_HERE / "pom.xml")),
                *("dependency:copy-dependencies", "-DincludeScope=runtime"),
                f"-DoutputDirectory={unfinished}",
            ],
            say=say,
        )
        verified(unfinished, hashes)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    say(f"{len(hashes)} jars have the hashes that were committed")


def _run(command: list[str], *, say: Say) -> None:
    started = time.monotonic()
    with subprocess.Popen(  # noqa: S603 - the machine's own Maven
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as maven:
        while True:
            try:
                output, _ = maven.communicate(timeout=SAY_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                say(f"… {time.monotonic() - started:.0f} s")
    if maven.returncode:
        errors = [line for line in output.splitlines() if line.startswith("[ERROR]")]
        why = (errors or output.splitlines() or ["it said nothing"])[0].removeprefix("[ERROR] ")
        raise KafkaNotFetched(f"Maven could not fetch Kafka {VERSION}: {why}")
