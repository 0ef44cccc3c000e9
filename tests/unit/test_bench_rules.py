"""`bench rules` measures fifty rules three ways, and says whether they fire the same."""

from __future__ import annotations

import pytest

from faregate.bench import rules
from faregate.bench.lists import list_cost


@pytest.mark.requirement("F7")
def test_fifty_rules_fire_the_same_three_ways() -> None:
    document = rules.fifty_rules()
    payments = list(rules.made_payments(document, 40))
    ways = [way(document) for way in (rules.compiled, rules.expressions, rules.graph)]
    fired = [[list(way(facts)) for facts in payments] for way in ways]
    assert fired[0] == fired[1] == fired[2]
    assert any(fired[0])


def test_the_result_says_what_was_compared() -> None:
    found = rules.bench_rules(rules.RulesPlan(payments=20, rounds=1, list_entries=500), say=lambda _: None)
    assert found.exit_status == 0
    assert found.as_json()["rules"] == rules.RULES
    assert list(found.details["rounds"]) == [rules.COMPILED, rules.EXPRESSIONS, rules.GRAPH]


def test_full_lists_take_memory_by_the_entry() -> None:
    assert list_cost(100).entries == 100
    assert list_cost(2_000).bytes_an_entry > 0
