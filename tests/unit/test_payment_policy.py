"""The payment policy: what a document must be, which table and cell a payment falls under, and what is done."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.payments.contracts.payments import AMOUNT_MAX, Attempt, PaymentChannel
from faregate.payments.contracts.policy import CellAction, Policy, ScorerState
from faregate.payments.contracts.scoring import NoScore, Score, ScorerAction
from faregate.payments.domain.policy import PaymentPolicyInvalid, band_of, read_policy, table_of
from faregate.payments.domain.verdict import decide
from faregate.payments.handlers.policies import first_policy

ATTEMPT = Attempt(
    card_token="crd_01J3R2J7F1TQ0K6W6N8A4X9V7R",
    member_id=None,
    amount_minor=1,
    currency="USD",
    merchant="mer_1",
    merchant_category=5812,
    channel=PaymentChannel.ONLINE,
    country="US",
    terminal_id=None,
    device_id=None,
    ip=None,
    ip_token=None,
    occurred_at=datetime(2026, 11, 27, tzinfo=UTC),
)
STRICTNESS = [CellAction.APPROVE, CellAction.APPROVE_AND_FLAG, CellAction.DECLINE]


def cells(action: str = "approve") -> dict[str, Any]:
    return {state: {"action": action, "message": "Sorry"} for state in ScorerState}


def scored(action: str = "approve", *degraded: str) -> Score:
    return Score(decision_id="dec_1", action=ScorerAction(action), score=0.5, degraded=degraded)


def _without_cell(policy: Any) -> None:
    del policy["tables"][0]["bands"][1]["cells"]["stale"]


def _with_gap(policy: Any) -> None:
    policy["tables"][0]["bands"][1]["from_minor"] = 5_001


def _with_overlap(policy: Any) -> None:
    policy["tables"][0]["bands"][1]["from_minor"] = 4_999


def _not_from_zero(policy: Any) -> None:
    policy["tables"][0]["bands"][0]["from_minor"] = 1


def _with_an_end(policy: Any) -> None:
    policy["tables"][0]["bands"][2]["to_minor"] = 10**9


def _as_scored_of_nothing(policy: Any) -> None:
    policy["tables"][0]["bands"][0]["cells"]["unavailable"] = {"action": "as_scored"}


def _decline_in_silence(policy: Any) -> None:
    del policy["tables"][0]["bands"][2]["cells"]["stale"]["message"]


def _unknown_state(policy: Any) -> None:
    policy["tables"][0]["bands"][0]["cells"]["asleep"] = {"action": "approve"}


def _unknown_action(policy: Any) -> None:
    policy["tables"][0]["bands"][0]["cells"]["stale"]["action"] = "shrug"


def _no_table_for_the_rest(policy: Any) -> None:
    policy["tables"][0]["scope"] = {"currency": "USD"}


def _unknown_currency(policy: Any) -> None:
    policy["tables"].append({**policy["tables"][0], "name": "other", "scope": {"currency": "XXX"}})


def _two_for_the_same(policy: Any) -> None:
    for name, ranges in (("fuel", [[5541, 5542]]), ("cars", [[5000, 5541]])):
        policy["tables"].append(
            {**policy["tables"][0], "name": name, "scope": {"merchant_categories": ranges}}
        )


def _country_in_words(policy: Any) -> None:
    policy["sanctioned_countries"].append("Cuba")


@pytest.mark.requirement("F9")
@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (_without_cell, "everything.middle.stale"),
        (_with_gap, "everything.middle"),
        (_with_overlap, "everything.middle"),
        (_not_from_zero, "everything.low"),
        (_with_an_end, "everything.high"),
        (_as_scored_of_nothing, "everything.low.unavailable"),
        (_decline_in_silence, "everything.high.stale"),
        (_unknown_state, "everything.low.asleep"),
        (_unknown_action, "tables.0.bands.0.cells.stale.action"),
        (_no_table_for_the_rest, "tables"),
        (_unknown_currency, "other.scope.currency"),
        (_two_for_the_same, "cars"),
        (_country_in_words, "sanctioned_countries"),
    ],
)
def test_a_policy_that_is_not_whole_is_refused_by_its_place(spoil: Callable[[Any], None], place: str) -> None:
    document = deepcopy(first_policy())
    spoil(document)
    with pytest.raises(PaymentPolicyInvalid) as refused:
        read_policy(document)
    assert refused.value.facts["place"] == place


@given(amount=st.integers(0, AMOUNT_MAX), ends=st.sets(st.integers(0, AMOUNT_MAX - 1), max_size=5))
def test_every_amount_is_in_exactly_one_band(amount: int, ends: set[int]) -> None:
    starts = [0, *(end + 1 for end in sorted(ends))]
    bands = [
        {"name": f"b{n}", "from_minor": start, "to_minor": end, "cells": cells()}
        for n, (start, end) in enumerate(zip(starts, [*sorted(ends), None], strict=True))
    ]
    document = {**first_policy(), "tables": [{"name": "all", "scope": {}, "bands": bands}]}
    table = read_policy(document).tables[0]
    assert [band for band in table.bands if band.holds(amount)] == [band_of(table, amount)]


def test_the_table_that_says_most_about_a_payment_counts() -> None:
    band = {"name": "any", "from_minor": 0, "cells": cells()}
    scopes: dict[str, dict[str, Any]] = {
        "any": {},
        "dollars": {"currency": "USD"},
        "atm": {"channel": "atm"},
        "dollars_at_atm": {"currency": "USD", "channel": "atm"},
        "cash": {"merchant_categories": [[6010, 6011]]},
        "cash_in_dollars": {"merchant_categories": [[6010, 6011]], "currency": "USD"},
    }
    tables = [{"name": name, "scope": scope, "bands": [band]} for name, scope in scopes.items()]
    policy = read_policy({**first_policy(), "tables": tables})

    def found(**of: Any) -> str:
        return table_of(policy, replace(ATTEMPT, **of)).name

    assert found(currency="CHF") == "any"
    assert found() == "dollars"
    assert found(channel=PaymentChannel.ATM) == "dollars_at_atm"
    assert found(channel=PaymentChannel.ATM, currency="CHF") == "atm"
    assert found(channel=PaymentChannel.ATM, currency="CHF", merchant_category=6011) == "cash"
    assert found(channel=PaymentChannel.ATM, merchant_category=6010) == "cash_in_dollars"
    assert found(merchant_category=6012) == "dollars"


def policy_of(action: str) -> Policy:
    band = {"name": "any", "from_minor": 0, "cells": {**cells(action), "unavailable": cells()["stale"]}}
    return read_policy({**first_policy(), "tables": [{"name": "t", "scope": {}, "bands": [band]}]})


@pytest.mark.requirement("F9")
@pytest.mark.parametrize(
    ("said", "cell"),
    product(["approve", "review", "decline"], ["approve", "approve_and_flag", "decline", "as_scored"]),
)
@pytest.mark.parametrize("missing", ["features_missing", "features_stale", "rules_missing", "model_missing"])
def test_of_an_answer_that_lacks_something_the_stricter_of_it_and_the_cell_counts(
    said: str, cell: str, missing: str
) -> None:
    means = {
        "approve": CellAction.APPROVE,
        "review": CellAction.APPROVE_AND_FLAG,
        "decline": CellAction.DECLINE,
    }
    floor = CellAction.APPROVE if cell == "as_scored" else CellAction(cell)
    verdict = decide(ATTEMPT, scored(said, missing), policy_of(cell))
    assert verdict.action is max(means[said], floor, key=STRICTNESS.index)
    assert verdict.missing == (missing,)
    state = "model_missing" if missing == "model_missing" else "stale"
    assert verdict.cell == f"t.any.{state}"
    assert (verdict.message is not None) >= verdict.is_declined


def test_a_record_that_is_kept_elsewhere_first_changes_no_decision_and_is_named() -> None:
    verdict = decide(ATTEMPT, scored("approve", "audit_spooled"), policy_of("decline"))
    assert (verdict.action, verdict.cell, verdict.missing) == (CellAction.APPROVE, None, ("audit_spooled",))


def test_of_two_things_that_are_missing_the_stricter_cell_counts() -> None:
    band = {"name": "any", "from_minor": 0, "cells": {**cells(), "model_missing": cells("decline")["stale"]}}
    policy = read_policy({**first_policy(), "tables": [{"name": "t", "scope": {}, "bands": [band]}]})
    verdict = decide(ATTEMPT, scored("approve", "features_stale", "model_missing"), policy)
    assert (verdict.action, verdict.cell) == (CellAction.DECLINE, "t.any.model_missing")
    assert verdict.states == (ScorerState.STALE, ScorerState.MODEL_MISSING)


@pytest.mark.requirement("F9")
@pytest.mark.parametrize("review", ["approve_and_flag", "decline"])
def test_what_the_scorer_wants_looked_at_is_what_the_policy_says(review: str) -> None:
    policy = read_policy({**first_policy(), "review": review})
    assert decide(ATTEMPT, scored("review"), policy).action is CellAction(review)


def test_without_an_answer_no_amount_is_approved_in_silence() -> None:
    verdict = decide(ATTEMPT, NoScore("timed_out"), read_policy(first_policy()))
    assert verdict.missing == ("score",)
    assert [reason.code for reason in verdict.reasons] == ["SCORER_UNAVAILABLE"]
