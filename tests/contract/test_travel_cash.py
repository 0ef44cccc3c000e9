"""What travel needs of payments, in its own process and over HTTP: one contract, under the same keys."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from faregate.entrypoints.bootstrap.cash import (
    CLIENT,
    CashAnsweredOtherwise,
    CashDesk,
    CashDeskUnavailable,
    PaymentsHere,
    PaymentsOverHttp,
)
from faregate.entrypoints.bootstrap.payments import payments_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.infra.supervisor import free_port
from faregate.travel.contracts.redemptions import Came
from tests.payments_world import PaymentsWorld, payments_of_module, shared_payments  # noqa: F401

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("F16")]
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Cash:
    """Both ways to payments, and the one that a test is about."""

    desk: CashDesk
    other: CashDesk
    payments: PaymentsWorld
    no: int = field(default_factory=partial(next, _numbers))

    def key(self, act: str) -> str:
        return f"rdm_{self.no}:{act}:1"

    async def member(self, **card: Any) -> str:
        """Return a member who has a card."""
        member = f"mbr_CASH{self.no:022}"
        await self.payments.card(member_id=member, **card)
        return member

    async def authorised(self, member: str, amount: int = 5_000, act: str = "authorise") -> Came:
        return await self.desk.authorise(
            key=self.key(act), member_id=member, amount_minor=amount, currency="USD"
        )

    async def stands(self, came: Came) -> tuple[str, int, int]:
        [row] = await self.payments.world.sql(
            "select * from payments.payment where id = %(id)s", id=came.facts["authorisation"]
        )
        return row["status"], row["captured_minor"], row["refunded_minor"]


@pytest_asyncio.fixture(loop_scope="module", params=["in this process", "over HTTP"])
async def cash(request: pytest.FixtureRequest, shared: PaymentsWorld) -> AsyncIterator[Cash]:
    world = shared.world
    async with AsyncExitStack() as stack:
        await world.add_key(CLIENT, client=CLIENT, scopes=["payments:authorise", "payments:write"])
        here = CashDesk(PaymentsHere(await payments_api(Process(stack, world.site))), "US")
        ask = PaymentsOverHttp(world.session, base_url=world.url, api_key=world.tokens[CLIENT])
        there = CashDesk(ask, "US")
        one, other = (here, there) if request.param == "in this process" else (there, here)
        yield Cash(desk=one, other=other, payments=shared)


async def test_cash_is_authorised_with_the_members_card_scored_captured_and_given_back(cash: Cash) -> None:
    member = await cash.member()
    came = await cash.authorised(member)
    assert came.refusal is None
    assert [asked["member_id"] for asked in cash.payments.scorer.asked] == [member]
    authorisation = came.facts["authorisation"]
    for _ in range(2):
        assert await cash.desk.capture(key=cash.key("capture"), authorisation=authorisation) == Came()
        back = cash.desk.refund(key=cash.key("refund"), authorisation=authorisation, amount_minor=2_000)
        assert await back == Came()
    assert await cash.stands(came) == ("captured", 5_000, 2_000)


async def test_what_comes_again_under_its_key_is_done_once_the_one_way_and_the_other(cash: Cash) -> None:
    member = await cash.member()
    came = await cash.authorised(member)
    turned = replace(cash, desk=cash.other)
    assert await turned.authorised(member) == came
    assert len(cash.payments.scorer.asked) == 1
    authorisation = came.facts["authorisation"]
    for desk in (cash.desk, cash.other):
        assert await desk.capture(key=cash.key("capture"), authorisation=authorisation) == Came()
    for desk in (cash.other, cash.desk):
        back = desk.refund(key=cash.key("refund"), authorisation=authorisation, amount_minor=1_000)
        assert await back == Came()
    assert await cash.stands(came) == ("captured", 5_000, 1_000)


async def test_an_authorisation_is_released_and_releasing_it_again_is_nothing_new(cash: Cash) -> None:
    came = await cash.authorised(await cash.member())
    authorisation = came.facts["authorisation"]
    for act in ("void", "void again"):
        assert await cash.desk.void(key=cash.key(act), authorisation=authorisation) == Came()
    assert await cash.stands(came) == ("reversed", 0, 0)
    refused = await cash.desk.capture(key=cash.key("capture"), authorisation=authorisation)
    assert refused == Came(refusal="payment_not_authorised")


async def test_refusals_have_names(cash: Cash) -> None:
    nobody = "mbr_00000000000000000000000000"
    assert (await cash.authorised(nobody)).refusal == "no_card"
    limits = [{"currency": "USD", "transaction_minor_max": 100, "day_minor_max": 100}]
    member = await cash.member(limits=limits)
    assert (await cash.authorised(member, 101, "too much")).refusal == "transaction_limit"
    cash.payments.scorer.changes = {"action": "decline"}
    assert (await cash.authorised(member, 1, "declined")).refusal == "declined"


async def test_what_captured_cash_cannot_be_is_refused_and_stays_refused(cash: Cash) -> None:
    came = await cash.authorised(await cash.member())
    authorisation = came.facts["authorisation"]
    refund = partial(cash.desk.refund, authorisation=authorisation, amount_minor=1)
    assert await refund(key=cash.key("early")) == Came(refusal="payment_not_captured")
    await cash.desk.capture(key=cash.key("capture"), authorisation=authorisation)
    assert await refund(key=cash.key("early")) == Came(refusal="payment_not_captured")
    assert await refund(key=cash.key("late")) == Came()


async def test_a_key_that_means_something_else_is_no_answer(cash: Cash) -> None:
    member = await cash.member()
    await cash.authorised(member)
    with pytest.raises(CashAnsweredOtherwise):
        await cash.authorised(member, 5_001)


@pytest.mark.parametrize("way", ["a key that is none", "nobody listens", "another address"])
async def test_payments_that_cannot_be_asked_are_unavailable(shared: PaymentsWorld, way: str) -> None:
    world = shared.world
    await world.add_key(CLIENT, client=CLIENT, scopes=["payments:authorise", "payments:write"])
    nobody = f"http://127.0.0.1:{free_port(host='127.0.0.1')}"
    ask = PaymentsOverHttp(
        world.session,
        base_url={"nobody listens": nobody, "another address": f"{world.url}/else"}.get(way, world.url),
        api_key="fg_none" if way == "a key that is none" else world.tokens[CLIENT],
    )
    with pytest.raises(CashDeskUnavailable):
        await CashDesk(ask, "US").authorise(
            key="never", member_id="mbr_00000000000000000000000000", amount_minor=1, currency="USD"
        )
