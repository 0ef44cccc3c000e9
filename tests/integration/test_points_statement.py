"""Statements trace each spend to the very earns that it came from, and say the same in every form."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faregate.points.contracts.ledger import OperationKind
from faregate.points.contracts.reading import Statement
from faregate.points.handlers import reading
from tests.conftest import OpenDatabase
from tests.credit_world import world  # noqa: F401
from tests.points_ledger import MEMBERS, START, run_seed
from tests.points_world import PointsWorld, points_of_test  # noqa: F401

pytestmark = [pytest.mark.requirement("L13")]

SPENDS = {
    OperationKind.BURN,
    OperationKind.POST,
    OperationKind.CONVERT,
    OperationKind.TRANSFER,
    OperationKind.EXPIRE,
}


def period(form: str = "json") -> str:
    now = datetime.now(UTC)
    since, until = ((now + timedelta(days=days)).isoformat().replace("+", "%2B") for days in (-1, 1))
    return f"statement?since={since}&until={until}&format={form}"


async def spent_in_parts(points: PointsWorld) -> tuple[str, list[int]]:
    """A member with three earns of 100, of whose points 150 were spent, 20 by a hold; return the earns."""
    today = datetime.now(UTC).date()
    member = await points.member()
    earns = [
        await points.done("earn", member_id=member, amount=100, expires_on=str(today + timedelta(days=days)))
        for days in (30, 10, 20)
    ]
    await points.done("burn", member_id=member, amount=130, reference="flight")
    hold = await points.done("hold", member_id=member, amount=50)
    await points.done("post", subject=hold, amount=20)
    return member, earns


async def test_a_spend_names_its_earns_those_first_that_expire_first(points: PointsWorld) -> None:
    member, [_, second, third] = await spent_in_parts(points)
    statement = (await points.get(f"/accounts/{member}/{period()}")).json
    traced = [
        (line["kind"], line["change"], [(one["operation"], one["amount"]) for one in line["sources"]])
        for line in statement["lines"]
    ]
    assert traced[3:] == [
        ("burn", -130, [(second, 100), (third, 30)]), ("hold", 0, []), ("post", -20, [(third, 20)]),
    ]  # fmt: skip
    assert (statement["opening"]["posted"], statement["closing"]["posted"]) == (0, 150)
    assert [line["held"] for line in statement["lines"][4:]] == [50, -50]


async def test_the_csv_has_a_row_for_each_source(points: PointsWorld) -> None:
    member, [_, second, third] = await spent_in_parts(points)
    reply = await points.get(f"/accounts/{member}/{period('csv')}")
    assert reply.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(reply.body.decode())))
    burned = [row for row in rows if row["kind"] == "burn"]
    assert [(row["from_operation"], row["from_amount"]) for row in burned] == [
        (str(second), "100"), (str(third), "30"),
    ]  # fmt: skip
    assert {row["reference"] for row in burned} == {"flight"}


async def test_the_pdf_has_pages(points: PointsWorld) -> None:
    member, _ = await spent_in_parts(points)
    reply = await points.get(f"/accounts/{member}/{period('pdf')}")
    assert reply.headers["content-type"] == "application/pdf"
    assert reply.body.startswith(b"%PDF-")
    assert b"/Count 1" in reply.body


async def test_a_period_that_ends_before_it_begins_is_refused(points: PointsWorld) -> None:
    member = await points.member()
    reply = await points.get(
        f"/accounts/{member}/statement?since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z"
    )
    assert reply.problem == (400, "period-empty")


def traced(statement: Statement) -> list[tuple[int, int]]:
    """Return of each spend what it took from the balance, and what its sources add up to."""
    return [
        (-line.change, sum(source.amount for source in line.sources))
        for line in statement.lines
        if line.kind in SPENDS
    ]


async def test_in_any_history_the_sources_of_a_spend_add_up_to_it(open_database: OpenDatabase) -> None:
    database = await open_database("points")
    spends: list[Any] = []
    for seed in range(12):
        await run_seed(database, seed, operations=80, checked_each=False)
        for name in MEMBERS:
            found = await reading.statement(
                database, f"{name}-{seed}", since=START - timedelta(days=1), until=START + timedelta(days=999)
            )
            spends += traced(found)
            assert found.opening.posted + sum(line.change for line in found.lines) == found.closing.posted
    assert len(spends) > 50
    assert [one for one in spends if one[0] != one[1]] == []
