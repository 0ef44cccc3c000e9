"""A diff names each thing that differs with its place, and nothing that only looks different."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.store.artefacts import load_ruleset_document
from faregate.rules.diff import diff_documents
from tests.unit.test_ruleset_checks import node

Change = Callable[[dict[str, Any]], Any]


REMOVED_ROW = (
    "removed score_band / rows / borderline: description A person reviews from 0.30 to below 0.45., "
    'score.risk_score < 0.45, name "borderline", reason_code "SCORE_BORDERLINE"'
)


def released() -> dict[str, Any]:
    return load_ruleset_document("card-eligibility-1")


def content(changed: dict[str, Any], node_id: str) -> dict[str, Any]:
    [found] = [n for n in changed["graph"]["nodes"] if n["id"] == node_id]
    inner: dict[str, Any] = found["content"]
    return inner


def lines(change: Change) -> list[str]:
    changed = copy.deepcopy(released()) | {"version": 2}
    change(changed)
    return [
        " ".join(difference.text.split()) for difference in diff_documents(released(), changed).differences
    ]


CHANGES: list[tuple[Change, list[str]]] = [
    (
        lambda d: content(d, "score_band")["rules"][0].update(when_0="< 0.25"),
        ["changed score_band / rows / low / score.risk_score: < 0.3 → < 0.25"],
    ),
    (
        lambda d: content(d, "score_band")["rules"].pop(1),
        [REMOVED_ROW],
    ),
    (
        lambda d: content(d, "concerns")["rules"].append({"_id": "new", "when_0": "null"}),
        ["added concerns / rows / new: facts.fraud_level null"],
    ),
    (lambda d: content(d, "gaps")["rules"][0].update(when_3=""), []),
    (
        lambda d: content(d, "knock_outs")["rules"][6].pop("when_1"),
        ["removed knock_outs / rows / income_verified / application.annual_income: >= 12000"],
    ),
    (
        lambda d: content(d, "outcome")["rules"].insert(0, content(d, "outcome")["rules"].pop(3)),
        ["moved outcome / rows / concern: from place 4 to 1"],
    ),
    (lambda d: content(d, "outcome").update(hitPolicy="collect"), ["changed outcome / hitPolicy: first → collect"]),
    (
        lambda d: content(d, "answer")["expressions"][0].update(value="'denied'"),
        ["changed answer / expressions / outcome / value: outcome → 'denied'"],
    ),
    (
        lambda d: content(d, "input")["schema"]["properties"]["score"]["properties"]["risk_score"].pop("maximum"),
        ["removed input / schema / properties / score / properties / risk_score / maximum: 1"],
    ),
    (
        lambda d: content(d, "concerns")["inputs"][0].update(field="facts.fraud_score"),
        [
            "changed concerns / inputs / when_0 / field: facts.fraud_level → facts.fraud_score",
            "removed concerns / rows / fraud_medium / facts.fraud_level: 'medium'",
            "added concerns / rows / fraud_medium / facts.fraud_score: 'medium'",
        ],
    ),
    (
        lambda d: d["code_set"]["codes"]["FRAUD_HIGH"].update(specify="Fraud"),
        [
            "changed code_set / codes / FRAUD_HIGH: "
            + " → ".join(
                ", ".join(f"{k} {v}" for k, v in entry.items())
                for entry in (
                    released()["code_set"]["codes"]["FRAUD_HIGH"],
                    released()["code_set"]["codes"]["FRAUD_HIGH"] | {"specify": "Fraud"},
                )
            )
        ],
    ),
    (
        lambda d: d["code_set"]["codes"].update(NEW_CODE={"meaning": "New."}),
        ["added code_set / codes / NEW_CODE: meaning New."],
    ),
    (
        lambda d: d["code_set"].update(version="reason-codes-2"),
        ["changed code_set / version: reason-codes-1 → reason-codes-2"],
    ),
    (lambda d: d["code_fields"].update(other=None), ["added code_fields / other: None"]),
    (
        lambda d: d.update(description="Other."),
        [f"changed document / description: {released()['description']} → Other."],
    ),
    (lambda d: d["graph"]["nodes"].append(node("late", "switchNode")), ["added late: switchNode"]),
    (lambda d: d["graph"]["edges"].pop(0), ["removed edges / input → knock_outs: None"]),
    (lambda d: d["graph"]["nodes"].reverse(), []),
]  # fmt: skip


@pytest.mark.requirement("C17")
@pytest.mark.parametrize(
    ("change", "expected"), CHANGES, ids=[str((e or ["nothing"])[0])[:50] for _, e in CHANGES]
)
def test_a_change_is_named_with_its_place(change: Change, expected: list[str]) -> None:
    assert lines(change) == expected


def test_a_version_does_not_differ_from_itself() -> None:
    diff = diff_documents(released(), released() | {"version": 2})
    assert (diff.before, diff.after, diff.differences) == ("card-eligibility-1", "card-eligibility-2", ())


def test_a_diff_is_json_with_the_values_on_both_sides() -> None:
    changed = copy.deepcopy(released()) | {"version": 2}
    content(changed, "score_band")["rules"][0]["when_0"] = "< 0.25"
    document = orjson.loads(orjson.dumps(diff_documents(released(), changed).document()))
    assert document["differences"] == [
        {
            "change": "changed",
            "place": ["score_band", "rows", "low", "score.risk_score"],
            "before": "< 0.3",
            "after": "< 0.25",
        }
    ]


@given(order=st.permutations(range(6)))
def test_rows_that_moved_are_named_and_the_others_kept_their_order(order: list[int]) -> None:
    changed = copy.deepcopy(released()) | {"version": 2}
    rules = content(changed, "outcome")["rules"]
    ids = [rule["_id"] for rule in rules]
    content(changed, "outcome")["rules"] = [rules[i] for i in order]
    found = diff_documents(released(), changed).differences
    assert all(difference.change == "moved" for difference in found)
    moved = {difference.place[-1] for difference in found}
    stayed = [ids[i] for i in order if ids[i] not in moved]
    assert stayed == [name for name in ids if name not in moved]
    assert bool(moved) == (order != sorted(order))
