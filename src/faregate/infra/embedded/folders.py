"""Private folders: the home of the data, and one for sockets whose path is short enough for the kernel."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from faregate.infra.embedded.errors import EmbeddedServerError

_SOCKET_PATH_BYTES_MAX = 103  # the smallest limit of the systems we run on (macOS), its closing zero included
START_LOCK = "start.lock"
PASSAGE = 0o011
"""What others may do in a home through which a server of another user has to pass."""
_OTHERS = 0o077
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
# A comma or a quote would need another quoting in PostgreSQL's setting than in URLs.
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def private_folder(folder: Path) -> Path:
    """Make the folder with its parents, open to its owner only, and return its absolute path.

    One that exists is narrowed if it is empty or a home of ours; another's files are left as they are.
    """
    folder = folder.expanduser().absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    open_to_others = folder.stat().st_mode & _OTHERS
    if open_to_others not in (0, PASSAGE) and ((folder / START_LOCK).exists() or not any(folder.iterdir())):
        folder.chmod(0o700)
    return folder


def socket_folder(home: Path) -> Path:
    """The folder for sockets: `run` in the home, or a private one in the temp folder if that will not do."""
    inside = home / "run"
    if _holds_sockets(inside):
        inside.mkdir(mode=0o700, exist_ok=True)
        return inside
    name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    for temporary in (Path("/tmp"), Path(tempfile.gettempdir())):  # noqa: S108 - private below it, see _make_own
        folder = temporary / f"faregate-{os.getuid()}-{name}"
        if os.access(temporary, os.W_OK | os.X_OK) and _holds_sockets(folder):
            return _make_own(folder)
    raise EmbeddedServerError(f"neither {inside} nor the temp folder can hold a socket")


def discard_socket_folder(home: Path) -> None:
    """Remove the folder for sockets if it is empty: in the temp folder it would be litter."""
    with contextlib.suppress(OSError):
        socket_folder(home).rmdir()


def _holds_sockets(folder: Path) -> bool:
    length = len(os.fsencode(folder / _LONGEST_SOCKET_NAME))
    return length <= _SOCKET_PATH_BYTES_MAX and _PLAIN.fullmatch(str(folder)) is not None


def _make_own(folder: Path) -> Path:
    """Make a folder at a predictable name; one that somebody else put there first is refused."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EmbeddedServerError(f"{folder} is not a private folder of ours; remove it")
    return folder
