"""Points become a partner's units, once a key, at the terms of the first time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Earn, KeyReused, Operation
from faregate.points.domain.conversion import LessThanOneBlock, PartnerUnknown, Ratio
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from tests.conftest import OpenDatabase
from tests.points_ledger import START, day_of

pytestmark = [pytest.mark.requirement("L2"), pytest.mark.requirement("L13")]
BEFORE = {"skymiles": Ratio(points=3, units=1, block=1_500)}
ASKED: dict[str, Any] = {
    "key": "c",
    "by": "clerk",
    "member_id": "ada",
    "amount": 3_500,
    "partner": "skymiles",
}


@pytest.fixture
async def points(open_database: OpenDatabase, tmp_path: Path) -> PointsApi:
    database = await open_database("points")
    writer = LedgerWriter(database=database, day_of=day_of)
    async with database.transaction() as conn:
        await open_accounts(conn, ["ada"], at=START)
    await writer.submit(Earn(key="e", member_id="ada", amount=10_000))
    return PointsApi(
        database=database, writer=writer, day_of=day_of, anchor_file=tmp_path / "anchors", partners=BEFORE
    )


@pytest.mark.parametrize(
    "partners",
    [
        {"skymiles": Ratio(points=2, units=1, block=1_500)},
        {"skymiles": Ratio(points=3, units=1, block=2_400)},
        {"skymiles": Ratio(points=1, units=1, block=9_000)},
        {},
    ],
    ids=["ratio", "block", "less than one block", "no partner"],
)
async def test_a_repeat_is_answered_as_the_first_time_whatever_the_terms_are_by_now(
    points: PointsApi, partners: Mapping[str, Ratio]
) -> None:
    first = await points.convert(**ASKED)
    assert isinstance(first, Operation)
    assert (first.amount, first.gives) == (3_000, 1_000)
    later = replace(points, partners=partners)
    assert await later.convert(**ASKED) == replace(first, is_replay=True)
    assert (await points.account("ada")).balance.posted == 7_000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": 3_600}, "amount"),
        ({"partner": "hotelpoints"}, "partner"),
        ({"member_id": "bob"}, "member_id"),
    ],
)
async def test_a_key_that_is_used_for_something_else_is_told_so_even_where_the_terms_would_refuse_it(
    points: PointsApi, change: Mapping[str, Any], field: str
) -> None:
    await points.convert(**ASKED)
    for partners in (BEFORE, {**BEFORE, "hotelpoints": Ratio(points=1, units=1)}, {}):
        answer = await replace(points, partners=partners).convert(**{**ASKED, **change})
        assert answer == KeyReused(key="c", field=field)


async def test_two_of_one_batch_under_one_key_are_one(points: PointsApi) -> None:
    first = await points.conversion(**ASKED)
    other = await replace(points, partners={"skymiles": Ratio(points=1, units=2)}).conversion(**ASKED)
    one, two = await points.submit_many([first, other])
    assert isinstance(one, Operation)
    assert two == replace(one, is_replay=True)


async def test_what_was_never_done_is_refused_by_the_terms_of_now(points: PointsApi) -> None:
    with pytest.raises(LessThanOneBlock):
        await points.convert(**{**ASKED, "amount": 1_499})
    with pytest.raises(PartnerUnknown):
        await replace(points, partners={}).convert(**ASKED)
