"""Cold storage of events: a Delta table with one Parquet file a segment of the log, in the order of `seq`.

Any engine that reads Delta tables can read it. Which segments count as cold is not known here: the log's own table
of segments says that, and a copy that it does not name is of no consequence.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from faregate.kernel.errors import UnavailableError

_GROUP_ROWS = 20_000
"""Rows of one row group: what is read to find the events of one key."""

_INSTANT = pa.timestamp("us", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("partition", pa.int16(), nullable=False),
        pa.field("aggregatetype", pa.string(), nullable=False),
        pa.field("aggregateid", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
        pa.field("time", _INSTANT, nullable=False),
        pa.field("traceparent", pa.string()),
        pa.field("sequenced_at", _INSTANT, nullable=False),
    ]
)
_TABLE = pa.schema([pa.field("segment", pa.int64(), nullable=False), *_COLUMNS])

Row = Sequence[Any]
"""One event as stored: the columns in their order, instants as microseconds since 1970, the payload as JSON text."""


class ColdCopyDamaged(UnavailableError):
    """The cold copy of a segment is missing, unreadable, or not what was written.

    Restore the archive folder from a backup; `faregate archive verify` says which segments are whole.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What identifies a copy: its rows, the SHA-256 over them, its size, and when its first and last were sequenced."""

    rows: int
    sha256: bytes
    bytes: int
    first_at: datetime
    last_at: datetime


class ColdEvents:
    """The events of cold segments in one folder. Blocking: call it from a thread. One writer at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "events"

    def write(self, *, segment: int, rows: Iterable[Row], now: datetime) -> Copy:
        """Write the copy of a segment, durable and read back before it counts, in place of any earlier one."""
        self._begin(segment)
        path = self._segment_folder(segment) / f"events-{uuid4().hex}.parquet"
        written = Tally()
        _write_file(path, written.watch(rows))
        _sync(path.parent)
        copy = written.copy(path)
        _check_file(path, segment=segment, rows=copy.rows, sha256=copy.sha256)
        self._commit(segment, path, copy, now=now)
        return copy

    def read(self, *, segment: int, after: int = 0, key: str | None = None) -> Iterator[Row]:
        """Yield the rows of a segment after a place, those of one aggregate id if given. Raises ColdCopyDamaged."""
        for row in _rows_of(self._file(segment), key=key):
            if row[0] > after and (key is None or row[4] == key):
                yield row

    def check(self, *, segment: int, rows: int | None, sha256: bytes | None) -> None:
        """Read the whole copy of a segment; raise ColdCopyDamaged unless it holds these rows."""
        _check_file(self._file(segment), segment=segment, rows=rows, sha256=sha256)

    def _begin(self, segment: int) -> None:
        """Make the table if there is none, and remove what attempts that died left in the segment's folder."""
        folder = self._segment_folder(segment)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        DeltaTable.create(str(self.folder), schema=_TABLE, mode="ignore", partition_by=["segment"])
        counted = {self.folder / name for name in self._names(segment)}
        for path in set(folder.glob("*.parquet")) - counted:
            path.unlink()

    def _commit(self, segment: int, path: Path, copy: Copy, *, now: datetime) -> None:
        last = segment + copy.rows - 1
        stats = {
            "numRecords": copy.rows,
            "minValues": {"seq": segment},
            "maxValues": {"seq": last},
            "nullCount": {},
        }
        action = AddAction(
            path=str(path.relative_to(self.folder)),
            size=copy.bytes,
            partition_values={"segment": str(segment)},
            modification_time=int(now.timestamp() * 1000),
            data_change=True,
            stats=orjson.dumps(stats).decode(),
        )
        DeltaTable(str(self.folder)).create_write_transaction(
            [action], "overwrite", _TABLE, ["segment"], [("segment", "=", str(segment))]
        )
        log = self.folder / "_delta_log"
        for file in log.iterdir():
            _sync(file)
        for folder in (log, self.folder, self.folder.parent):
            _sync(folder)

    def _file(self, segment: int) -> Path:
        try:
            names = self._names(segment)
        except (DeltaError, OSError) as error:
            raise ColdCopyDamaged(f"the archive in {self.folder} cannot be read: {error}") from error
        if len(names) != 1:
            raise ColdCopyDamaged(f"segment {segment} has {len(names)} files in {self.folder}")
        return self.folder / names[0]

    def _names(self, segment: int) -> list[str]:
        table = pa.table(DeltaTable(str(self.folder)).get_add_actions(flatten=True))
        return [row["path"] for row in table.to_pylist() if row["partition.segment"] == segment]

    def _segment_folder(self, segment: int) -> Path:
        return self.folder / f"segment={segment}"


def _check_file(path: Path, *, segment: int, rows: int | None, sha256: bytes | None) -> None:
    """Read a whole file; raise ColdCopyDamaged unless it holds these rows."""
    found = Tally()
    for row in _rows_of(path):
        found.add(row)
    if (found.rows, found.sha256) != (rows, sha256):
        raise ColdCopyDamaged(
            f"segment {segment} has {found.rows} rows that are not the {rows} which were written",
            segment=segment,
        )


class Tally:
    """Counts and hashes rows as they pass, and remembers when the first and the last of them were sequenced."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.rows, self._first_us, self._last_us = 0, 0, 0

    @property
    def sha256(self) -> bytes:
        """The hash over the rows so far."""
        return self._digest.digest()

    def add(self, row: Row) -> None:
        """Count one more row."""
        self._digest.update(orjson.dumps(list(row), option=orjson.OPT_APPEND_NEWLINE))
        self._first_us = self._first_us if self.rows else row[-1]
        self._last_us = row[-1]
        self.rows += 1

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows and count each."""
        for row in rows:
            self.add(row)
            yield row

    def copy(self, path: Path) -> Copy:
        """Return what passed, and the size of the file that holds it."""
        return Copy(
            rows=self.rows,
            sha256=self.sha256,
            bytes=path.stat().st_size,
            first_at=_EPOCH + timedelta(microseconds=self._first_us),
            last_at=_EPOCH + timedelta(microseconds=self._last_us),
        )


def _write_file(path: Path, rows: Iterable[Row]) -> None:
    following = iter(rows)
    with path.open("wb") as file:
        with pq.ParquetWriter(file, _COLUMNS, compression="zstd") as writer:
            while group := list(islice(following, _GROUP_ROWS)):
                columns = zip(*group, strict=True)
                arrays = [pa.array(values, kind.type) for values, kind in zip(columns, _COLUMNS, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=_COLUMNS))
        file.flush()
        os.fsync(file.fileno())


def _rows_of(path: Path, *, key: str | None = None) -> Iterator[Row]:
    """Yield the rows of a file, group by group; groups that cannot hold the key are passed over."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                if key is None or _may_hold(file.metadata.row_group(group), key):
                    yield from zip(*_columns(file.read_row_group(group)), strict=True)
    except (OSError, pa.ArrowException) as error:
        raise ColdCopyDamaged(f"{path} cannot be read: {error}") from error


def _columns(table: Any) -> Iterator[list[Any]]:
    for column in table.itercolumns():
        yield (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _may_hold(group: Any, key: str) -> bool:
    statistics = group.column(_COLUMNS.get_field_index("aggregateid")).statistics
    return statistics is None or not statistics.has_min_max or statistics.min <= key <= statistics.max


def _sync(path: Path) -> None:
    """Bring a file or the names in a folder to the disk: what is copied is about to be dropped elsewhere."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
