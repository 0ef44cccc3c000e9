"""PostgreSQL refuses to run as root: this finds a way to run it as somebody else on the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from faregate.infra.embedded.errors import EmbeddedServerError
from faregate.infra.embedded.folders import PASSAGE

_NOBODY = 65534
_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")
_SETPRIV = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")


@dataclass(frozen=True, slots=True)
class Unprivileged:
    """How to run a command without root's rights: what to put before it, and who then owns the files."""

    prefix: Sequence[str] = ()
    owner: int | None = None

    @classmethod
    def choose(cls) -> Unprivileged:
        """Nothing for an ordinary user; for root a user namespace, or the user nobody where there is none."""
        if os.geteuid() != 0:
            return cls()
        if _works(_NAMESPACE):
            return cls(prefix=_NAMESPACE, owner=0)
        if _works(_SETPRIV):
            return cls(prefix=_SETPRIV, owner=_NOBODY)
        raise EmbeddedServerError(
            "PostgreSQL does not run as root, and neither `unshare --user` nor `setpriv` works here: "
            "run faregate as an ordinary user or set FAREGATE_DATABASE_URL"
        )

    def own(self, folder: Path) -> None:
        """Make the folder and give it, with what is in it, to whoever will run the command."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.owner is None or folder.stat().st_uid == self.owner:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.owner, self.owner, follow_symlinks=False)

    def open_way(self, *, home: Path, program: Path) -> None:
        """Let whoever will run the command through the home, and make sure that all else lets him pass."""
        if not self.owner:
            return
        home.chmod(home.stat().st_mode | PASSAGE)
        for path in (*reversed(home.parents), home, *reversed(program.parents), program):
            if not _succeeds([*self.prefix, "test", "-x", str(path)]):
                raise EmbeddedServerError(
                    "PostgreSQL does not run as root, user namespaces do not work here, and the user nobody "
                    f"may not enter {path}: run faregate as an ordinary user, set FAREGATE_HOME to a folder "
                    "that everybody may enter, or set FAREGATE_DATABASE_URL"
                )


@cache
def _works(prefix: Sequence[str]) -> bool:
    return shutil.which(prefix[0]) is not None and _succeeds([*prefix, "true"])


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - ours
