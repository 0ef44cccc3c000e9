"""What the journal has confirmed is on the disk; what was torn is gone; nobody else writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faregate.sandbox.journal import Journal, JournalBroken, JournalInUse


async def _written(path: Path, *numbers: int) -> None:
    journal, _ = Journal.open(path)
    for number in numbers:
        await journal.append({"number": number})
    await journal.close()


async def _read(path: Path) -> list[int]:
    journal, records = Journal.open(path)
    await journal.close()
    return [record["number"] for record in records]


async def test_a_confirmed_record_is_in_the_file_before_anyone_closes_it(tmp_path: Path) -> None:
    journal, _ = Journal.open(tmp_path / "journal")
    await journal.append({"number": 1})
    assert (tmp_path / "journal").read_bytes() == b'{"number":1}\n'
    await journal.close()


async def test_records_that_arrive_together_share_a_sync_and_keep_their_order(tmp_path: Path) -> None:
    journal, _ = Journal.open(tmp_path / "journal")
    await asyncio.gather(*(journal.append({"number": number}) for number in range(500)))
    assert journal.syncs < 5
    await journal.close()
    assert await _read(tmp_path / "journal") == list(range(500))


@pytest.mark.parametrize("torn", [b'{"number":3', b'{"number":3}', b"{"])
async def test_a_torn_last_line_is_cut_off_and_writing_goes_on_behind_it(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "journal"
    await _written(path, 1, 2)
    path.write_bytes(path.read_bytes() + torn)
    await _written(path, 4)
    assert await _read(path) == [1, 2, 4]


async def test_a_broken_line_in_the_middle_is_not_repaired_by_guessing(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b'{"number":1}\nnonsense\n{"number":2}\n')
    with pytest.raises(JournalBroken):
        Journal.open(tmp_path / "journal")


async def test_a_second_process_cannot_open_the_same_journal(tmp_path: Path) -> None:
    journal, _ = Journal.open(tmp_path / "journal")
    with pytest.raises(JournalInUse):
        Journal.open(tmp_path / "journal")
    await journal.close()
    assert await _read(tmp_path / "journal") == []


async def test_a_full_disk_fails_the_record_and_leaves_no_trace_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = Journal.open(tmp_path / "journal")
    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", _no_space)
        with pytest.raises(OSError, match="no space"):
            await journal.append({"number": 1})
    await journal.append({"number": 2})
    await journal.close()
    assert await _read(tmp_path / "journal") == [2]


def _no_space(descriptor: int) -> None:
    raise OSError("no space left on device")
