"""Finds Java and Maven on this machine. What they run does not belong here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from faregate.infra.embedded.errors import EmbeddedServerError

JAVA_VERSION_MIN: Final = 17
_OTHERWISE = "or name a Kafka that runs: FAREGATE_KAFKA_BOOTSTRAP"


class JavaMissing(EmbeddedServerError):
    """There is no Java that could run Kafka."""


class MavenMissing(EmbeddedServerError):
    """Kafka's jars are not here yet, and there is no Maven to fetch them."""


def java_program() -> Path:
    """The `java` of JAVA_HOME, else of the PATH; one that is too old is as good as none."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    program = found or shutil.which("java")
    if program is None:
        raise JavaMissing(f"Kafka needs Java {JAVA_VERSION_MIN} or newer: install it, {_OTHERWISE}")
    version = _version_of(program)
    if version < JAVA_VERSION_MIN:
        what = f"{program} is Java {version}" if version else f"{program} does not run"
        raise JavaMissing(
            f"Kafka needs Java {JAVA_VERSION_MIN} or newer, and {what}: install one, {_OTHERWISE}"
        )
    return Path(program)


def maven_program() -> Path:
    """The `mvn` of the PATH."""
    program = shutil.which("mvn")
    if program is None:
        raise MavenMissing(f"Maven (mvn) fetches Kafka once, and it is missing: install it, {_OTHERWISE}")
    return Path(program)


@cache
def _version_of(program: str) -> int:
    """The feature release, or 0 where it cannot be told: macOS has a `java` that only says where to get one."""
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(found[1]) if found else 0
