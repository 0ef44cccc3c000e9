"""An append-only file of JSON lines that is on the disk before anyone learns of a line.

Lines that arrive while the disk is busy share the next fsync. Who kills the process loses at most lines that
nobody was told of; a torn last line is cut off at the next start. What the lines mean does not belong here.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from faregate.kernel.errors import ConflictError


class JournalInUse(ConflictError):
    """Another process writes to this journal."""


class JournalBroken(ConflictError):
    """A line before the last one cannot be read: no torn write, so nothing is repaired by guessing."""


class Journal:
    """Appends records in batches. Use `open`; one process at a time holds a journal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = os.fstat(descriptor).st_size
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self.syncs = 0

    @classmethod
    def open(cls, path: Path) -> tuple[Journal, list[dict[str, Any]]]:
        """Return the journal and the records that it holds. Raises `JournalInUse`, `JournalBroken`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise JournalInUse(f"another process writes to {path}") from error
        records = list(_read_and_repair(descriptor, path))
        _sync_folder(path.parent)
        return cls(descriptor), records

    def append(self, record: Mapping[str, Any]) -> asyncio.Future[None]:
        """Queue a record. The future is done once the record is on the disk, and fails if the disk does."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((orjson.dumps(record) + b"\n", future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return future

    async def close(self) -> None:
        """Write what waits and give the journal back."""
        while self._writer is not None:
            await self._writer
        os.close(self._descriptor)

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, b"".join(line for line, _ in batch))
            except OSError as error:
                _settle(batch, error)
            else:
                _settle(batch, None)
        self._writer = None

    def _write(self, lines: bytes) -> None:
        """Write whole lines or none: what failed halfway is cut off again."""
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._bytes)
            raise
        self._bytes += len(lines)
        self.syncs += 1


def _settle(batch: list[tuple[bytes, asyncio.Future[None]]], error: OSError | None) -> None:
    for _, future in batch:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _read_and_repair(descriptor: int, path: Path) -> Iterator[dict[str, Any]]:
    """Yield every whole record and cut the file behind the last one."""
    whole = 0
    with os.fdopen(os.dup(descriptor), "rb") as lines:
        lines.seek(0)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise JournalBroken(f"{path} cannot be read at byte {whole}") from error
            whole += len(line)
            yield record
    os.ftruncate(descriptor, whole)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
