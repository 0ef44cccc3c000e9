"""Records in local files: what was confirmed is there after a crash, whatever the crash left at the end."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.infra.spool import MAGIC, Spool, SpoolFull

LARGE = 10**9


async def spooled(folder: Path, records: list[bytes]) -> Path:
    """Append records as a process that ends; return its file."""
    spool = Spool(folder, bytes_max=LARGE)
    spool.open()
    await asyncio.gather(*(spool.append(one) for one in records))
    spool.close()
    [file] = files_in(folder)
    return file


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def taken(folder: Path) -> tuple[list[bytes], bool]:
    """Take everything as another process, and delete it; return the records, and whether one was damaged."""
    spool = Spool(folder, bytes_max=LARGE)
    spool.open()
    parts = await spool.take()
    for part in parts:
        spool.forget(part)
    assert spool.is_empty
    spool.close()
    return [record for part in parts for record in part.records], any(part.is_damaged for part in parts)


async def test_what_was_appended_is_taken_by_the_next_process_in_its_order(tmp_path: Path) -> None:
    records = [str(number).encode() * number for number in range(300)]
    await spooled(tmp_path, records)
    assert await taken(tmp_path) == (records, False)
    assert files_in(tmp_path) == []


@given(records=st.lists(st.binary(max_size=60), min_size=1, max_size=8), data=st.data())
@settings(deadline=None, max_examples=40)
async def test_a_file_that_was_cut_off_anywhere_gives_every_whole_record_before(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    file = await spooled(folder, records)
    size = data.draw(st.integers(0, file.stat().st_size))
    os.truncate(file, size)
    ends = [len(MAGIC) + sum(12 + len(one) for one in records[: n + 1]) for n in range(len(records))]
    whole = sum(end <= size for end in ends)
    assert await taken(folder) == (records[:whole], False)


@given(records=st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=6), data=st.data())
@settings(deadline=None, max_examples=40)
async def test_a_flipped_bit_never_gives_a_record_that_nobody_wrote_and_the_file_is_kept(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    file = await spooled(folder, records)
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    found, is_damaged = await taken(folder)
    assert found == records[: len(found)]
    assert len(found) < len(records)
    assert is_damaged
    [kept] = [one for one in files_in(folder) if one.suffix == ".damaged"]
    assert kept.read_bytes() == content


async def test_nobody_takes_the_file_of_a_process_that_lives(tmp_path: Path) -> None:
    living = Spool(tmp_path, bytes_max=LARGE)
    living.open()
    await living.append(b"mine")
    assert await taken_by_another(tmp_path) == []
    another = Spool(tmp_path, bytes_max=LARGE)
    another.open()
    assert (another.is_empty, another.finds_others()) == (True, True)
    assert another.held_bytes > 0
    [part] = await living.take()
    assert part.records == [b"mine"]
    assert not living.finds_others()
    assert await taken_by_another(tmp_path) == []
    living.close()
    assert await taken_by_another(tmp_path) == [b"mine"]


async def taken_by_another(folder: Path) -> list[bytes]:
    other = Spool(folder, bytes_max=LARGE)
    other.open()
    records = [record for part in await other.take() for record in part.records]
    other.close()
    return records


async def test_what_is_appended_while_a_part_is_out_comes_into_another(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=LARGE)
    spool.open()
    await spool.append(b"first")
    [first] = await spool.take()
    await spool.append(b"second")
    spool.forget(first)
    assert not spool.is_empty
    [second] = await spool.take()
    assert (first.records, second.records) == ([b"first"], [b"second"])
    spool.close()


async def test_nobody_takes_a_file_that_is_just_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, is_made, may_go_on = fcntl.flock, threading.Event(), threading.Event()

    def held_up(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX:  # of the one that makes it; who looks for files does not wait
            is_made.set()
            may_go_on.wait(30)
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", held_up)
    spool = Spool(tmp_path, bytes_max=LARGE)
    spool.open()
    appending = asyncio.create_task(spool.append(b"mine"))
    await asyncio.to_thread(is_made.wait, 30)
    assert await taken(tmp_path) == ([], False)
    may_go_on.set()
    await appending
    spool.close()
    assert await taken(tmp_path) == ([b"mine"], False)


async def test_parts_are_taken_while_others_go_on_appending_without_a_pause(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=LARGE)
    spool.open()
    written: list[bytes] = []

    async def go_on(name: int) -> None:
        for number in itertools.count():
            await spool.append(record := f"{name}-{number}".encode())
            written.append(record)

    appenders = [asyncio.create_task(go_on(name)) for name in range(16)]
    found: list[bytes] = []
    async with asyncio.timeout(30):
        while len(found) < 500:
            for part in await spool.take():
                found += part.records
                spool.forget(part)
            await asyncio.sleep(0)
    for appender in appenders:
        appender.cancel()
    await asyncio.gather(*appenders, return_exceptions=True)
    async with asyncio.timeout(30):
        while not spool.is_empty:
            for part in await spool.take():
                found += part.records
                spool.forget(part)
    assert len(found) == len(set(found))
    assert set(written) <= set(found)
    spool.close()


async def test_a_full_spool_takes_nothing_more_until_something_arrived(tmp_path: Path) -> None:
    spool = Spool(tmp_path, bytes_max=200)
    spool.open()
    await spool.append(b"x" * 120)
    with pytest.raises(SpoolFull):
        await spool.append(b"y" * 120)
    [part] = await spool.take()
    spool.forget(part)
    await spool.append(b"y" * 120)
    spool.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from faregate.infra.spool import Spool

async def main() -> None:
    spool = Spool(Path(sys.argv[1]), bytes_max=10**9)
    spool.open()
    number = 0
    while True:
        await asyncio.gather(*(spool.append(str(number + n).encode()) for n in range(7)))
        number += 7
        print(number, flush=True)

asyncio.run(main())
"""


async def test_what_was_confirmed_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    confirmed = await asyncio.to_thread(killed_writer, tmp_path)
    found, _ = await taken(tmp_path)
    assert len(found) >= confirmed
    assert found == [str(number).encode() for number in range(len(found))]


def killed_writer(folder: Path) -> int:
    """Let a process append until it is killed; return how many records it had been told are there."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) > 100:
                writer.send_signal(signal.SIGKILL)
                return int(line)
    raise AssertionError("it ended by itself")
