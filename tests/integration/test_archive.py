"""Segments of the log, their way into cold storage and back, and reading across the border."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from faregate.infra.eventlog import archive, forget_group, hot, replay
from faregate.infra.eventlog.admin import EventsArchived
from faregate.infra.eventlog.archive import ArchiveBusy, EventsNotCold, LogInUse
from faregate.infra.eventlog.cold import ColdCopyDamaged
from tests.archive_world import (
    AT_ONCE,
    SEGMENT,
    WEEK,
    archive_of,
    assert_whole,
    files_of,
    filled,
    many,
    read,
    run,
    small_log,  # noqa: F401
)
from tests.conftest import OpenDatabase
from tests.eventlog import Log, assert_each_once_and_in_order, eventually, running

pytestmark = pytest.mark.requirement("C31")


async def test_the_log_grows_over_the_borders_of_its_segments_without_a_gap(log: Log) -> None:
    sent = await filled(log, 35)
    assert_each_once_and_in_order(await log.effects(), sent)
    query = "select tableoid::regclass::text as t, count(*) as n from eventlog.event group by 1 order by 1"
    rows = await log.rows(query)
    assert [(row["t"], row["n"]) for row in rows] == [
        ("eventlog.event_1", 10), ("eventlog.event_11", 10), ("eventlog.event_21", 10), ("eventlog.event_31", 5),
    ]  # fmt: skip


async def test_a_batch_larger_than_a_segment_opens_as_many_as_it_needs(
    open_database: OpenDatabase, log: Log
) -> None:
    await log.append(*many(57))
    await log.until_sequenced(57)
    [row] = await log.rows("select max(end_seq) as end_seq from eventlog.segment")
    assert row["end_seq"] == 61


async def test_the_next_segment_is_opened_before_it_is_needed(log: Log) -> None:
    async def ends() -> list[int]:
        async with log.admin.transaction() as conn:
            await conn.execute("select eventlog.open_segment_ahead()")
        return [row["end_seq"] for row in await log.rows("select end_seq from eventlog.segment order by 1")]

    await log.append(*many(4))
    await log.until_sequenced(4)
    assert await ends() == [11]
    await log.append(*many(2))
    await log.until_sequenced(6)
    assert [await ends(), await ends()] == [[11, 21], [11, 21]]


@pytest.mark.parametrize(
    ("filled_in", "next_size"), [("1 hour", 200), ("24 hours", 100), ("60 hours", 50), ("1 second", 200)]
)
async def test_a_segment_is_twice_the_last_if_that_filled_fast_and_half_of_it_if_slowly(
    log: Log, filled_in: str, next_size: int
) -> None:
    async with log.admin.transaction() as conn:
        await conn.execute("update eventlog.segment_policy set rows_min = 20, rows_max = 1000")
        await conn.execute(
            "update eventlog.segment set from_seq = 1, end_seq = 101, opened_at = now() - %s::interval",
            (filled_in,),
        )
        await conn.execute("select eventlog.open_segment(101)")
    [row] = await log.rows("select end_seq - from_seq as size from eventlog.segment where from_seq = 101")
    assert row["size"] == next_size


async def test_filled_and_handled_segments_move_and_the_log_reads_as_before(log: Log, tmp_path: Path) -> None:
    sent = await filled(log, 35)
    moved = await run(log, tmp_path)
    assert (len(moved.segments), moved.events) == (3, 30)
    assert "from event 31 on is still being filled" in moved.stopped_by
    assert [row["seq"] for row in await log.rows("select min(seq) as seq from eventlog.event")] == [31]
    assert files_of(tmp_path) == [1, 11, 21]
    assert_whole(await read(log.admin, tmp_path), sent)


async def test_the_events_of_one_application_are_found_on_both_sides_of_the_border(
    log: Log, tmp_path: Path
) -> None:
    sent = await filled(log, 35)
    await run(log, tmp_path)
    found = await read(log.admin, tmp_path, key="app_2")
    assert [e.id for e in found] == [e.id for e in sent if e.aggregate_id == "app_2"]
    assert [e.seq for e in await read(log.admin, tmp_path, after=28, key="app_2")] == [31, 35]


async def test_appending_and_consuming_go_on_after_the_whole_log_went_cold(log: Log, tmp_path: Path) -> None:
    sent = await filled(log, 30)
    await run(log, tmp_path)
    more = many(12, start=30)
    async with running(log.member()):
        await log.append(*more)
        effects = await log.until_effects(42)
    assert_each_once_and_in_order(effects, [*sent, *more])
    assert_whole(await read(log.admin, tmp_path), [*sent, *more])


async def test_a_run_with_nothing_to_move_changes_nothing(log: Log, tmp_path: Path) -> None:
    await filled(log, 35)
    await run(log, tmp_path)
    assert (await run(log, tmp_path)).segments == []
    assert files_of(tmp_path) == [1, 11, 21]


async def test_events_younger_than_asked_stay(log: Log, tmp_path: Path) -> None:
    await filled(log, 15)
    moved = await run(log, tmp_path, older_than=timedelta(days=30))
    assert (moved.segments, moved.stopped_by) == ([], "event 10 is younger than that")


async def test_events_that_a_group_has_not_handled_stay_until_it_has_or_is_forgotten(
    log: Log, tmp_path: Path
) -> None:
    async with running(log.member("old-group")):
        await eventually(lambda: _has_positions(log, "old-group"), what="positions of old-group")
    await filled(log, 15)
    moved = await run(log, tmp_path)
    assert (moved.segments, moved.stopped_by) == ([], "event 10 is not handled by old-group (at 0)")
    async with log.admin.transaction() as conn:
        await forget_group(conn, group="old-group")
    assert len((await run(log, tmp_path)).segments) == 1


async def test_a_new_group_begins_with_the_oldest_event_in_postgresql(log: Log, tmp_path: Path) -> None:
    sent = await filled(log, 25)
    await run(log, tmp_path)
    async with running(log.member("newcomers")):
        effects = await log.until_effects(5, "newcomers")
    assert_each_once_and_in_order(effects, sent[20:])


async def test_a_replay_from_cold_storage_is_refused_and_works_once_the_events_are_back(
    log: Log, tmp_path: Path
) -> None:
    sent = await filled(log, 35)
    await run(log, tmp_path)
    with pytest.raises(EventsArchived, match="faregate archive restore --from-seq 12"):
        await _replay(log, from_seq=12)
    restored = await archive_of(log.admin, tmp_path).restore(from_seq=12, keep=WEEK)
    assert [segment.from_seq for segment in restored] == [11, 21]
    await _replay(log, from_seq=12)
    async with running(log.member()):
        effects = await log.until_effects(35 + 24)
    assert_each_once_and_in_order(effects[35:], sent[11:])
    assert_whole(await read(log.admin, tmp_path), sent)


async def test_what_was_restored_stays_for_a_while_and_then_moves_again(log: Log, tmp_path: Path) -> None:
    sent = await filled(log, 25)
    await run(log, tmp_path)
    kept = archive_of(log.admin, tmp_path)
    await kept.restore(from_seq=1, keep=WEEK)
    assert "was restored" in (await kept.run(older_than=AT_ONCE)).stopped_by
    await log.rows("update eventlog.segment set kept_until = now() returning 1")
    assert len((await kept.run(older_than=AT_ONCE)).segments) == 2
    assert files_of(tmp_path) == [1, 11]
    assert_whole(await read(log.admin, tmp_path), sent)


async def test_there_is_nothing_to_restore_of_what_is_hot(log: Log, tmp_path: Path) -> None:
    with pytest.raises(EventsNotCold):
        await archive_of(log.admin, tmp_path).restore(from_seq=1, keep=WEEK)


async def test_a_position_in_cold_storage_is_refused_rather_than_read_over(log: Log, tmp_path: Path) -> None:
    await filled(log, 25)
    await run(log, tmp_path)
    with pytest.raises(psycopg.errors.RaiseException, match="events after 3 are in cold storage"):
        await log.rows("select * from eventlog.take('readers', '{1}', 3, 30, null, 10, 1000)")


async def test_segments_on_either_side_refuse_changes(log: Log, tmp_path: Path) -> None:
    await filled(log, 25)
    await run(log, tmp_path)
    for table in ("eventlog.event", "eventlog.event_21"):
        for statement in (f"delete from {table}", f"truncate {table}", f"update {table} set type = 'x'"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                await log.rows(statement)


@pytest.mark.parametrize("damage", ["flip", "cut", "lose", "swap"])
@pytest.mark.requirement("C32")
async def test_a_damaged_copy_is_named_and_never_read_as_if_it_were_whole(
    log: Log, tmp_path: Path, damage: str
) -> None:
    await filled(log, 35)
    await run(log, tmp_path)
    first, second, _ = sorted((tmp_path / "events").glob("segment=*/*.parquet"))
    _damage(second, damage, other=first)
    found = await archive_of(log.admin, tmp_path).verify()
    assert [segment for segment, wrong in found.items() if wrong] == [11]
    with pytest.raises(ColdCopyDamaged):
        await archive_of(log.admin, tmp_path).restore(from_seq=11, keep=WEEK)
    assert files_of(tmp_path) == [1, 11, 21]


async def test_two_archivers_do_not_work_at_once(log: Log, tmp_path: Path) -> None:
    await filled(log, 15)
    async with await log.admin.connect() as conn:
        await conn.execute("select pg_advisory_lock(eventlog.border_lock() + 2)")
        with pytest.raises(ArchiveBusy):
            await run(log, tmp_path)


async def test_a_reader_that_never_ends_is_not_made_to_wait_for(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(log, 15)
    monkeypatch.setattr(archive, "CLOSE_TRIES", 1)
    async with log.admin.transaction() as reader:
        await reader.execute("select count(*) from eventlog.event")
        with pytest.raises(LogInUse):
            await run(log, tmp_path)
        await log.append(*many(1))
        await log.until_sequenced(16)
    assert len((await run(log, tmp_path)).segments) == 1


async def test_a_group_that_goes_back_while_a_segment_is_copied_keeps_it(log: Log, tmp_path: Path) -> None:
    sent = await filled(log, 15)

    def rewind(step: str) -> None:
        if step == "copied":
            with psycopg.connect(log.admin.url) as conn:
                conn.execute("update eventlog.assignment set position = 3")

    with pytest.raises(LogInUse, match="went back"):
        await archive_of(log.admin, tmp_path, on_step=rewind).run(older_than=AT_ONCE)
    assert_whole(await read(log.admin, tmp_path), sent)
    assert [row["n"] for row in await log.rows("select count(*) as n from eventlog.event")] == [15]


async def test_what_a_group_has_no_use_for_moves_though_nothing_more_comes(log: Log, tmp_path: Path) -> None:
    async with running(log.member("others", types=["credit.tested"]), log.member(types=["rare"])):
        await log.append(*many(2 * SEGMENT))
        await log.until_effects(2 * SEGMENT, "others")
        moved: list[object] = []

        async def are_moved() -> bool:
            moved.extend((await run(log, tmp_path)).segments)
            return len(moved) == 2

        await eventually(are_moved, what="both segments are cold")


async def test_events_move_under_load_and_every_one_is_handled_and_kept_once(
    log: Log, tmp_path: Path
) -> None:
    sent = many(200)
    moving = archive_of(log.admin, tmp_path)
    async with running(*(log.member("readers", batch_max=20) for _ in range(2)), log.member("others")):
        appending = asyncio.create_task(_append_all(log, sent))
        moved, found = 0, list[int]()
        try:
            async with asyncio.timeout(60):
                while not appending.done() or moved < len(sent) // SEGMENT:
                    moved += len((await moving.run(older_than=AT_ONCE)).segments)
                    found = [e.seq for e in await read(log.admin, tmp_path)]
                    assert found == list(range(1, len(found) + 1))
        except TimeoutError:
            [left] = await log.rows("select count(*) as n from eventlog.outbox")
            state = f"{moved} segments moved, {len(found)} events in the log, {left['n']} not sequenced"
            raise AssertionError(f"{state}, appended: {appending.done()}") from None
        await log.until_effects(len(sent))
        await log.until_effects(len(sent), "others")
    for group in ("readers", "others"):
        assert_each_once_and_in_order(await log.effects(group), sent)
    assert_whole(await read(log.admin, tmp_path), sent)


async def test_an_id_appended_again_is_dropped_also_across_segments(log: Log) -> None:
    sent = await filled(log, 25)
    await log.append(sent[3], *many(1))
    await log.until_sequenced(26)
    assert [row["n"] for row in await log.rows("select count(*) as n from eventlog.event")] == [26]


async def test_the_figures_of_what_is_hot_follow_the_border(log: Log, tmp_path: Path) -> None:
    await filled(log, 25)
    await run(log, tmp_path)
    async with log.admin.connection() as conn:
        found = await hot(conn)
    assert found.rows == 5
    assert found.oldest_at is not None


async def test_the_sequencer_continues_the_numbers_when_all_events_are_cold(log: Log, tmp_path: Path) -> None:
    await filled(log, 2 * SEGMENT)
    await run(log, tmp_path)
    [row] = await log.rows("select eventlog.last_seq() as seq")
    assert row["seq"] == 2 * SEGMENT


async def _append_all(log: Log, sent: Sequence[object]) -> None:
    for start in range(0, len(sent), 5):
        await log.append(*sent[start : start + 5])  # type: ignore[arg-type]


async def _replay(log: Log, *, from_seq: int) -> None:
    async with log.admin.transaction() as conn:
        await replay(conn, group="readers", from_seq=from_seq, effects_again=True)


async def _has_positions(log: Log, group: str) -> bool:
    return len(await log.rows("select from eventlog.assignment where consumer_group = %s", group)) == 16


def _damage(path: Path, damage: str, *, other: Path) -> None:
    whole = path.read_bytes()
    if damage == "lose":
        path.unlink()
    elif damage == "swap":
        path.write_bytes(other.read_bytes())
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        middle = 100
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
