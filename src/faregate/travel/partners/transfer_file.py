"""The daily file of the transfer partner: CSV in a folder that both can reach, answered by an acknowledgement file.

    transfer_id,account,units              transfer_id,status,reason
    trf_01…,EM123456,500                   trf_01…,accepted,
    END,1,500                              END,1,

The last line counts the rows, so that half a file is known for one. A file appears under its name when it is whole.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

END: Final = "END"
_SUFFIX: Final = ".ack.csv"


class FileBroken(ValueError):
    """A file is not what the two agreed on, or not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One transfer as the partner is told it."""

    transfer_id: str
    account: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """What the partner says of one transfer."""

    transfer_id: str
    is_accepted: bool
    reason: str


def written(rows: Sequence[Row]) -> bytes:
    """Return the file of these transfers."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("transfer_id", "account", "units"))
    lines.writerows((row.transfer_id, row.account, row.units) for row in rows)
    lines.writerow((END, len(rows), sum(row.units for row in rows)))
    return text.getvalue().encode()


def acknowledged(body: bytes) -> list[Acknowledged]:
    """Return what an acknowledgement says. Raises FileBroken."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileBroken("it is no CSV") from error
    if len(lines) < 2 or lines[0] != ["transfer_id", "status", "reason"]:
        raise FileBroken("it has another header")
    *rows, last = lines[1:]
    if last != [END, str(len(rows)), ""]:
        raise FileBroken("it is not whole")
    if any(len(row) != 3 or row[1] not in ("accepted", "rejected") for row in rows):
        raise FileBroken("a row is not as agreed")
    return [
        Acknowledged(transfer_id=id_, is_accepted=status == "accepted", reason=reason)
        for id_, status, reason in rows
    ]


class Drop:
    """The folder: `outgoing` is what we say, `acknowledged` what the partner says."""

    def __init__(self, folder: Path) -> None:
        self._outgoing, self._answers = folder / "outgoing", folder / "acknowledged"

    def put(self, name: str, body: bytes) -> None:
        """Let a file appear, whole and on the disk. One that is there stays as it is: its name says what is in it."""
        target = self._outgoing / f"{name}.csv"
        if target.exists():
            return
        self._outgoing.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=self._outgoing, suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(target)

    def answers(self) -> list[tuple[str, bytes]]:
        """Return the acknowledgements that wait, by the name of the file that they answer."""
        found = sorted(self._answers.glob(f"*{_SUFFIX}"))
        return [(path.name.removesuffix(_SUFFIX), path.read_bytes()) for path in found]

    def close(self, name: str) -> None:
        """Put an acknowledgement aside that was dealt with."""
        done = self._answers / "done"
        done.mkdir(parents=True, exist_ok=True)
        (self._answers / f"{name}{_SUFFIX}").replace(done / f"{name}{_SUFFIX}")
