"""Allow and block lists: what stands on them, until when, who put it there, and what every process knows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.fraud.contracts.lists import ListKind, ListName, NewEntry
from faregate.fraud.domain.listed import NAMES, ListValueInvalid, facts_of_lists, require_value
from faregate.fraud.handlers import lists as handlers
from faregate.fraud.handlers.lists import (
    ListDesk,
    ListEntriesInvalid,
    ListEntryNotFound,
    ListsFull,
    ListSnapshot,
)
from faregate.infra.database import Database
from tests.conftest import OpenDatabase
from tests.fraud_rules import NOON, MovedClock, Paying

ALLOW, BLOCK = ListName.ALLOW, ListName.BLOCK
CARD, MEMBER, COUNTRY = ListKind.CARD, ListKind.MEMBER, ListKind.COUNTRY


class World:
    """Lists in a database, and what one process knows of them."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock, self.snapshot = database, MovedClock(), ListSnapshot()
        self.desk = ListDesk(database=database, clock=self.clock)

    async def add(self, name: ListName, *entries: NewEntry, reason: str = "a test") -> None:
        async with self.database.transaction() as conn:
            await self.desk.add(conn, name, entries, actor="ada", reason=reason)

    async def remove(self, name: ListName, *entries: NewEntry) -> None:
        async with self.database.transaction() as conn:
            await self.desk.remove(conn, name, entries, actor="bob", reason="a mistake")

    async def listed(self, kind: ListKind, value: str, at: datetime | None = None) -> frozenset[str]:
        async with self.database.connection() as conn:
            await self.snapshot.refresh(conn, at=self.clock.now())
        return self.snapshot.members_of(kind, value, at or self.clock.now())


@pytest.fixture
async def world(open_database: OpenDatabase) -> World:
    return World(await open_database("fraud"))


def entry(kind: ListKind, value: str, expires_at: datetime | None = None) -> NewEntry:
    return NewEntry(kind=kind, value=value, expires_at=expires_at)


@pytest.mark.requirement("F7")
async def test_an_entry_counts_until_it_is_taken_off(world: World) -> None:
    await world.add(BLOCK, entry(CARD, "crd_1"))
    assert await world.listed(CARD, "crd_1") == {"block"}
    assert await world.listed(MEMBER, "crd_1") == frozenset()
    await world.remove(BLOCK, entry(CARD, "crd_1"))
    assert await world.listed(CARD, "crd_1") == frozenset()


@pytest.mark.requirement("F7")
async def test_an_entry_ends_at_its_instant_without_another_look(world: World) -> None:
    end = NOON + timedelta(hours=1)
    await world.add(BLOCK, entry(CARD, "crd_1", end))
    assert await world.listed(CARD, "crd_1") == {"block"}
    assert world.snapshot.members_of(CARD, "crd_1", end - timedelta(microseconds=1)) == {"block"}
    assert world.snapshot.members_of(CARD, "crd_1", end) == frozenset()


async def test_the_same_again_gets_a_new_end_and_one_may_stand_on_both_lists(world: World) -> None:
    await world.add(BLOCK, entry(CARD, "crd_1", NOON + timedelta(hours=1)))
    await world.add(BLOCK, entry(CARD, "crd_1"))
    await world.add(ALLOW, entry(CARD, "crd_1", NOON + timedelta(hours=2)))
    assert await world.listed(CARD, "crd_1") == {"allow", "block"}
    assert world.snapshot.members_of(CARD, "crd_1", NOON + timedelta(hours=3)) == {"block"}


async def test_two_processes_know_the_same_whenever_each_began_to_look(world: World) -> None:
    await world.add(BLOCK, entry(CARD, "crd_1"), entry(COUNTRY, "IR"))
    assert await world.listed(CARD, "crd_1") == {"block"}
    await world.remove(BLOCK, entry(CARD, "crd_1"))
    await world.add(ALLOW, entry(MEMBER, "mbr_2", NOON + timedelta(days=1)))
    await world.listed(CARD, "crd_1")
    late = ListSnapshot()
    async with world.database.connection() as conn:
        await late.refresh(conn, at=NOON)
    assert late.version == world.snapshot.version == 4
    assert late._entries == world.snapshot._entries


async def test_every_act_is_kept_with_who_and_why(world: World) -> None:
    await world.add(BLOCK, entry(CARD, "crd_1"), reason="stolen, ticket 4711")
    await world.remove(BLOCK, entry(CARD, "crd_1"))
    async with world.database.connection() as conn:
        found = await world.desk.history(conn, kind=CARD, value="crd_1")
        shown = await world.desk.entries(conn)
    assert [(one.act, one.by, one.reason) for one in found] == [
        ("removed", "bob", "a mistake"),
        ("added", "ada", "stolen, ticket 4711"),
    ]
    assert shown == []


async def test_the_history_cannot_be_changed(world: World, database_url: str) -> None:
    await world.add(BLOCK, entry(CARD, "crd_1"))
    with psycopg.connect(database_url) as conn, pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        conn.execute("delete from fraud.list_change")


async def test_entries_are_shown_page_by_page_without_those_that_ended(world: World) -> None:
    await world.add(BLOCK, *(entry(CARD, f"crd_{n}") for n in range(5)))
    await world.add(BLOCK, entry(CARD, "crd_9", NOON + timedelta(minutes=1)))
    world.clock.move(minutes=1)
    async with world.database.connection() as conn:
        first = await world.desk.entries(conn, name=BLOCK, limit=3)
        last = first[-1]
        rest = await world.desk.entries(conn, name=BLOCK, after=(last.list, last.kind, last.value))
    assert [one.value for one in (*first, *rest)] == [f"crd_{n}" for n in range(5)]


async def test_what_ended_long_ago_is_forgotten_by_the_table_and_by_processes(world: World) -> None:
    await world.add(BLOCK, entry(CARD, "crd_1", NOON + timedelta(hours=1)))
    await world.listed(CARD, "crd_1")
    world.clock.move(days=2)
    await world.add(BLOCK, entry(CARD, "crd_2"))
    await world.listed(CARD, "crd_2")
    assert len(world.snapshot) == 1
    async with world.database.connection() as conn:
        [row] = await (await conn.execute("select count(*) as entries from fraud.list_entry")).fetchall()
    assert row["entries"] == 1


async def test_the_lists_are_full_at_their_limit_and_nothing_is_added(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "ENTRIES_MAX", 2)
    await world.add(BLOCK, entry(CARD, "crd_1"), entry(CARD, "crd_2"))
    with pytest.raises(ListsFull):
        await world.add(ALLOW, entry(CARD, "crd_1"))
    await world.add(BLOCK, entry(CARD, "crd_1", NOON + timedelta(hours=1)))  # one that is there takes no room
    assert await world.listed(CARD, "crd_1") == {"block"}


async def test_taking_off_is_all_or_nothing(world: World) -> None:
    await world.add(BLOCK, entry(CARD, "crd_1"))
    with pytest.raises(ListEntryNotFound):
        await world.remove(BLOCK, entry(CARD, "crd_1"), entry(CARD, "crd_2"))
    assert await world.listed(CARD, "crd_1") == {"block"}


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry(CARD, "crd_1"), entry(CARD, "crd_1", NOON + timedelta(days=1))],
        [entry(CARD, "crd_1", NOON)],
        [entry(CARD, f"crd_{n}") for n in range(1_001)],
    ],
)
async def test_what_cannot_be_put_on_a_list_is_refused(world: World, entries: Sequence[NewEntry]) -> None:
    with pytest.raises(ListEntriesInvalid):
        await world.add(BLOCK, *entries)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("card", "4111111111111111"),
        ("card", "4111 1111 1111 1111"),
        ("card", ""),
        ("card", "crd 1"),
        ("card", "x" * 65),
        ("country", "us"),
        ("country", "USA"),
        ("ip_token", "203.0.113.7"),
        ("merchant", "m\0"),
        ("device", "dev\n"),
        ("device", "4111-1111-1111-1111"),
    ],
)
def test_a_value_that_nothing_of_the_kind_has_is_refused(kind: str, value: str) -> None:
    with pytest.raises(ListValueInvalid) as refused:
        require_value(ListKind(kind), value)
    assert "4111" not in refused.value.detail


@given(
    st.dictionaries(
        st.sampled_from(ListKind), st.frozensets(st.sampled_from([name.value for name in ListName]))
    )
)
def test_a_payment_is_on_a_list_with_anything_of_it(found: Mapping[ListKind, frozenset[str]]) -> None:
    facts = facts_of_lists(found)
    assert facts.keys() == NAMES
    for name in ListName:
        assert facts[name] == any(facts[f"{name}_{kind}"] for kind in ListKind)
        assert all(facts[f"{name}_{kind}"] == (name in found.get(kind, ())) for kind in ListKind)


async def test_the_facts_of_a_payment_name_what_of_it_is_listed(world: World) -> None:
    await world.add(BLOCK, entry(ListKind.DEVICE, "dev_1"))
    await world.listed(CARD, "crd_1")
    facts = world.snapshot.facts(Paying(), at=NOON)
    assert {name for name, holds in facts.items() if holds} == {"block", "block_device"}
    assert not any(world.snapshot.facts(Paying(device_id=None), at=NOON).values())
