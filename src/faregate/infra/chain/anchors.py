"""Anchors: the end of a chain, noted in a file that no role of the database can write.

One JSON object a line, only ever appended; a last line that is not whole was never noted, for its writer died. Keep
a copy on another machine: whoever can write to both the file and the database can make them agree.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import orjson

from faregate.infra.chain.links import Anchored
from faregate.kernel.errors import InvalidError


class AnchorsUnreadable(InvalidError):
    """A line of the file of anchors is no anchor."""


def append_anchor(path: Path, anchor: Anchored) -> None:
    """Append an anchor, and return when it is on the disk."""
    line = {
        "seq": anchor.seq,
        "sha256": anchor.sha256,
        "anchored_at": anchor.anchored_at.isoformat(timespec="seconds"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        found = path.read_bytes()
        whole = _whole_lines(found)
        os.ftruncate(descriptor, min(len(whole), len(found)))
        os.write(descriptor, whole[len(found) :] + orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_anchors(path: Path) -> Path:
    """Return the path of a file of anchors that somebody named. Raises `AnchorsUnreadable` if there is none."""
    if not path.is_file():
        raise AnchorsUnreadable(f"there is no file of anchors {path}")
    return path


def read_anchors(path: Path) -> list[Anchored]:
    """Return the anchors of a file, none if there is no file. Raises `AnchorsUnreadable`."""
    if not path.exists():
        return []
    return [
        _anchor(line, place=f"{path}:{number}")
        for number, line in enumerate(_whole_lines(path.read_bytes()).splitlines(), start=1)
        if line.strip()
    ]


def _whole_lines(content: bytes) -> bytes:
    """Return the content with its last line ended, or without it if it is not whole."""
    before, newline, last = content.rpartition(b"\n")
    if not last:
        return content
    try:
        _anchor(last, place="its last line")
    except AnchorsUnreadable:
        return before + newline
    return content + b"\n"


def _anchor(line: bytes, *, place: str) -> Anchored:
    try:
        found = orjson.loads(line)
        anchored_at = datetime.fromisoformat(found["anchored_at"])
        return Anchored(seq=int(found["seq"]), sha256=str(found["sha256"]), anchored_at=anchored_at)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise AnchorsUnreadable(f"{place} is no anchor: {error}") from error
