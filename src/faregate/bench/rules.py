"""Fifty traced rules on the hot path, beside the engine's evaluation of the same graph for each payment.

Three ways are measured on the same payments, in turns: the ruleset as one Python function; every cell as an expression
that the engine compiled before, over only the fields that it reads; and the engine's own evaluation of the graph with
its trace. The first and the last must fire the same rules on every payment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Final

import zen

from faregate.bench.lists import list_cost
from faregate.bench.report import BenchResult, target
from faregate.fraud.domain.cases import read_cases
from faregate.fraud.domain.rule_check import FRAUD
from faregate.fraud.handlers.lists import ENTRIES_MAX
from faregate.fraud.store.rulesets import load_ruleset_document
from faregate.rules.compiled import compile_hot
from faregate.rules.expressions import paths_read
from faregate.rules.ruleset import canonical, engine_graph

RULES: Final = 50
RATIO_MIN: Final = 2.0
SEED: Final = 20_261_127
MISSING_SHARE: Final = 0.2
"""So many features have no value: there was nothing before, or nothing was read."""
COMPILED, EXPRESSIONS, GRAPH = "compiled", "expressions", "graph"

Facts = dict[str, Any]
Way = Callable[[Facts], Sequence[str]]
"""Returns the rules that fire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesPlan:
    """How much is measured: every way judges all payments once a round; the median round counts."""

    payments: int = 500
    rounds: int = 15
    list_entries: int = ENTRIES_MAX


def bench_rules(plan: RulesPlan, *, say: Callable[[str], None]) -> BenchResult:
    """Measure the three ways in this process."""
    document = fifty_rules()
    payments = list(made_payments(document, plan.payments))
    ways = {COMPILED: compiled(document), EXPRESSIONS: expressions(document), GRAPH: graph(document)}
    fired = {name: [list(way(facts)) for facts in payments] for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(plan.rounds):
        for name, way in ways.items():
            times[name].append(_micros(way, payments))
        say(f"round {number + 1} of {plan.rounds}")
    found = {name: median(measured) for name, measured in times.items()}
    ratio, lists = found[GRAPH] / found[COMPILED], list_cost(plan.list_entries)
    return BenchResult(
        name="rules",
        ours=found[COMPILED],
        peer=found[GRAPH],
        peer_name="zen-engine, the graph with its trace for each payment",
        unit="µs a payment",
        lower_is_better=True,
        checks={
            f"the same rules fired on all {len(payments):,} payments": fired[COMPILED] == fired[GRAPH],
            "the rules fired on some and not on others": 0 < sum(map(bool, fired[COMPILED])) < len(payments),
        },
        details={
            "rules": RULES,
            "target_2_times": target(ratio >= RATIO_MIN),
            "compiled_expressions_us": round(found[EXPRESSIONS], 2),
            "rules_fired_a_payment": round(sum(map(len, fired[COMPILED])) / len(payments), 2),
            "list_entries": lists.entries,
            "list_bytes_an_entry": round(lists.bytes_an_entry),
            "list_facts_us_a_payment": round(lists.look_us, 2),
            "rounds": {name: [round(value, 2) for value in measured] for name, measured in times.items()},
        },
    )


def fifty_rules() -> dict[str, Any]:
    """Return the released ruleset of fraud with its first fifty rules."""
    document = deepcopy(load_ruleset_document(f"{FRAUD}-1"))
    left = RULES
    for node in document["graph"]["nodes"]:
        if node["type"] == "decisionTableNode":
            kept = node["content"]["rules"][:left]
            node["content"]["rules"], left = kept, left - len(kept)
    return document


def made_payments(document: Mapping[str, Any], count: int) -> Iterator[Facts]:
    """Yield payments with all facts that the rules read, the converted ones too: the same ones every time."""
    draw, ruleset = random.Random(SEED), compile_hot(canonical(document))  # noqa: S311 - it draws payments, no secrets
    cases = [case.facts for case in read_cases(document)]
    for _ in range(count):
        facts = deepcopy(dict(draw.choice(cases)))
        facts["amount_minor"] = round(draw.lognormvariate(8.5, 1.2))
        facts["features"] = {
            name: None if draw.random() < MISSING_SHARE else _varied(value, draw)
            for name, value in facts["features"].items()
        }
        yield dict(ruleset.completed(facts))


def compiled(document: Mapping[str, Any]) -> Way:
    """Return our way."""
    ruleset = compile_hot(canonical(document))
    return lambda facts: [one.rule for one in ruleset.evaluate(facts).fired]


def graph(document: Mapping[str, Any]) -> Way:
    """Return the engine's way: one call a payment, which answers with a trace."""
    decision = zen.ZenEngine().create_decision(engine_graph(document["graph"]))
    tables = [node["id"] for node in _tables(document)]

    def fired(facts: Facts) -> list[str]:
        trace = decision.evaluate(facts, {"trace": True})["trace"]
        return [hit["rule"]["_id"] for name in tables for hit in trace[name]["traceData"]]

    return fired


def expressions(document: Mapping[str, Any]) -> Way:
    """Return the way between: the engine's compiled expressions, a call a cell, until one does not hold."""
    rules = [
        (rule["_id"], list(_cells(rule, table["content"])))
        for table in _tables(document)
        for rule in table["content"]["rules"]
    ]

    def fired(facts: Facts) -> list[str]:
        return [rule for rule, cells in rules if all(cell(facts) for cell in cells)]

    return fired


def _cells(rule: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[Callable[[Facts], bool]]:
    for column in content["inputs"]:
        if cell := rule.get(column["id"]):
            yield _cell(cell, column.get("field"))


def _cell(cell: str, field: str | None) -> Callable[[Facts], bool]:
    if field is not None:
        unary, path = zen.compile_unary_expression(cell), field.split(".")
        return lambda facts: _holds(unary, {"$": _value(facts, path)})
    whole, paths = zen.compile_expression(cell), sorted(paths_read(cell))
    return lambda facts: _holds(whole, _only(facts, paths))


def _holds(expression: Any, context: Mapping[str, Any]) -> bool:
    try:
        return expression.evaluate(context) is True
    except Exception:  # noqa: BLE001 - the engine has no class of its own for what it cannot compare
        return False


def _value(facts: Facts, path: Sequence[str]) -> Any:
    found: Any = facts
    for name in path:
        found = found.get(name)
    return found


def _only(facts: Facts, paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in paths:
        inner = found
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = _value(facts, path)
    return found


def _tables(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [node for node in document["graph"]["nodes"] if node["type"] == "decisionTableNode"]


def _varied(value: float | None, draw: random.Random) -> float | None:
    """Return a value near the given one, of the same type."""
    if value is None:
        return None
    return value * draw.uniform(0.2, 3) if isinstance(value, float) else round(value * draw.uniform(0.5, 1.6))


def _micros(way: Way, payments: Sequence[Facts]) -> float:
    began = perf_counter()
    for facts in payments:
        way(facts)
    return (perf_counter() - began) / len(payments) * 1_000_000
