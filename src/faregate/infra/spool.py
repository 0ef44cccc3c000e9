"""Records in local files for as long as the place where they belong cannot be reached. What they are is the caller's.

A record is on the disk when `append` returns. A file begins with `MAGIC`; each record in it is its length, the CRC-32
of its bytes, the CRC-32 of these two, and its bytes: so a file that ends too early is told from one that was damaged.
Whoever writes a file holds its lock, so that a process finds those that another one left behind when it was killed, and
takes them over. A file is deleted once its records arrived; whoever takes records must be able to take them twice,
because a process may die in between.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from faregate.infra.coalescer import Coalescer
from faregate.kernel.errors import UnavailableError

_log = structlog.get_logger(__name__)

MAGIC: Final = b"faregate spool 1\n"
_NUMBERS: Final = struct.Struct("<II")
_HEAD: Final = struct.Struct("<8sI")
_BATCH_MAX: Final = 1_000


class SpoolFull(UnavailableError):
    """The spool holds as much as it may. Nothing more is taken until some of it has arrived."""


class SpoolBroken(UnavailableError):
    """The spool's disk takes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file that nobody appends to any more, with the records that could be read, in their order.

    `is_damaged`: some bytes of it are no record as it was written. Such a file is kept for people to look at.
    """

    path: Path
    records: Sequence[bytes]
    size: int
    is_damaged: bool


class Spool:
    """The files of a folder, of which this process appends to one. At most about `bytes_max` in all of them."""

    def __init__(self, folder: Path, *, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self._numbers = itertools.count()
        self._file: int | None = None
        self._path = folder
        self._file_bytes = 0
        self._sizes: dict[Path, int] = {}
        self._locked: dict[Path, int] = {}
        self._others_bytes = 0
        self._appending = 0
        self._writing = asyncio.Lock()
        self._coalescer = Coalescer[bytes, None](write=self._write, batch_max=_BATCH_MAX, writers_max=1)

    def open(self) -> None:
        """Make the folder, and look at what is in it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._look_at_others()

    @property
    def held_bytes(self) -> int:
        """How many bytes wait, those that others had in the folder at the last look included."""
        return self._file_bytes + sum(self._sizes.values()) + self._others_bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing of this process waits, and nothing is being appended. What others hold is theirs."""
        return self._file is None and not self._locked and not self._appending

    def finds_others(self) -> bool:
        """Return whether there are files that are not ours: of processes that live, or of some that do not."""
        return self._look_at_others()

    async def append(self, record: bytes) -> None:
        """Return when the record is on the disk. Raises SpoolFull and SpoolBroken."""
        if self.held_bytes + len(record) > self._bytes_max:
            raise SpoolFull("the spool is full", bytes_max=self._bytes_max, retry_after_s=1)
        self._appending += 1
        try:
            await self._coalescer.submit(record)
        finally:
            self._appending -= 1

    async def take(self) -> list[Part]:
        """Return what waits, oldest first; what is appended from now on comes into another file."""
        async with self._writing:  # between two batches: whoever waits for a pause may wait for ever
            self._close_file()
        return await asyncio.to_thread(self._taken)

    def forget(self, part: Part) -> None:
        """Delete a part whose records arrived; a damaged one is kept beside, under another name."""
        if part.is_damaged:
            part.path.rename(part.path.with_suffix(".damaged"))
            _log.error("spool_damaged", file=str(part.path.with_suffix(".damaged")))
        else:
            part.path.unlink()
        os.close(self._locked.pop(part.path))
        self._sizes.pop(part.path, None)
        self._sync_folder()

    def set_aside(self, record: bytes) -> None:
        """Write a record that nobody takes into a file of its own, for people to look at."""
        path = self._folder / f"{time.time_ns():020d}-{next(self._numbers)}.refused"
        with path.open("xb") as file:
            file.write(record)
            os.fsync(file.fileno())
        self._sync_folder()

    def close(self) -> None:
        """Let go of the files; what is in them stays."""
        self._close_file()
        for file in self._locked.values():
            os.close(file)
        self._locked = {}

    async def _write(self, records: Sequence[bytes]) -> Sequence[None]:
        async with self._writing:
            await asyncio.to_thread(self._append, records)
        return [None] * len(records)

    def _append(self, records: Sequence[bytes]) -> None:
        data = b"".join(part for one in records for part in (_head(one), one))
        try:
            file = self._opened_file() if self._file is None else self._file
            try:
                _write_all(file, data)
                os.fdatasync(file)
            except OSError:
                # What stands behind half a record could not be read: the next one begins where this one did.
                os.ftruncate(file, self._file_bytes)
                raise
        except OSError as error:
            raise SpoolBroken(f"the spool cannot be written: {error.strerror}", retry_after_s=1) from error
        self._file_bytes += len(data)

    def _opened_file(self) -> int:
        """Make a file, which gets its name once it is locked: one without a lock is taken for left behind."""
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}"
        new, path = self._folder / f"{name}.new", self._folder / f"{name}.spool"
        file = os.open(new, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        os.write(file, MAGIC)
        os.fsync(file)
        new.rename(path)
        self._sync_folder()
        self._file, self._path, self._file_bytes = file, path, len(MAGIC)
        return file

    def _close_file(self) -> None:
        if self._file is not None:
            self._locked[self._path], self._sizes[self._path] = self._file, self._file_bytes
            self._file, self._file_bytes = None, 0

    def _taken(self) -> list[Part]:
        found = []
        for path in sorted(self._folder.glob("*.spool")):
            if path == self._path and self._file is not None:
                continue
            if path in self._locked or self._take_over(path):
                part = _read(path)
                self._sizes[path] = part.size
                found.append(part)
        self._look_at_others()
        return found

    def _look_at_others(self) -> bool:
        others = [path for path in self._folder.glob("*.spool") if not self._is_ours(path)]
        self._others_bytes = sum(_size(path) for path in others)
        return bool(others)

    def _is_ours(self, path: Path) -> bool:
        return path in self._locked or (self._file is not None and path == self._path)

    def _take_over(self, path: Path) -> bool:
        """Lock what another process left behind; false if it lives, or somebody else was faster."""
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        if not path.exists():  # whoever had the lock deleted it
            os.close(file)
            return False
        self._locked[path] = file
        return True

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _size(path: Path) -> int:
    """Return the size of a file; nothing for one that its owner deleted a moment ago."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _head(record: bytes) -> bytes:
    numbers = _NUMBERS.pack(len(record), zlib.crc32(record))
    return _HEAD.pack(numbers, zlib.crc32(numbers))


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _read(path: Path) -> Part:
    """Read a file. A record that was cut off at the end was never confirmed to anybody, and is left out."""
    data = path.read_bytes()
    records: list[bytes] = []
    place, is_damaged = len(MAGIC), bool(data) and not data.startswith(MAGIC[: len(data)])
    while not is_damaged and place + _HEAD.size <= len(data):
        numbers, checksum = _HEAD.unpack_from(data, place)
        if zlib.crc32(numbers) != checksum:
            is_damaged = True
            break
        length, checksum = _NUMBERS.unpack(numbers)
        record = data[place + _HEAD.size : place + _HEAD.size + length]
        if len(record) < length:
            break
        is_damaged = zlib.crc32(record) != checksum
        if not is_damaged:
            records.append(record)
            place += _HEAD.size + length
    return Part(path=path, records=records, size=len(data), is_damaged=is_damaged)
