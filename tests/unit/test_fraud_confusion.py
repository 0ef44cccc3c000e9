"""Backtests on files: what is read of a file, and what confusion comes of it, by number and by amount."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.bench.fraud_facts import benchmark_facts
from faregate.fraud.domain.confusion import Confusion
from faregate.fraud.handlers.trying import on_file
from faregate.fraud.store.fact_files import FactFileInvalid, payments_in
from faregate.rules.compiled import compile_hot
from faregate.rules.ruleset import canonical
from faregate.sandbox.traffic.benchmark import benchmark_payments
from tests.fraud_rules import released

RULESET = compile_hot(canonical(released(1)))


def payment(amount_minor: int = 100, **facts: Any) -> dict[str, Any]:
    return {"amount_minor": amount_minor, "currency": "USD", "country": "US", "hour": 12, **facts}


def counted(*judged: tuple[dict[str, Any], bool | None]) -> dict[str, Any]:
    confusion = Confusion(ruleset=RULESET)
    for facts, is_fraud in judged:
        confusion.add(facts, is_fraud=is_fraud)
    return confusion.document()


@pytest.mark.requirement("F11")
def test_confusion_is_counted_by_number_and_by_amount() -> None:
    found = counted(
        (payment(3_000_000), True),  # reviewed
        (payment(1_000, country="IR"), True),  # declined
        (payment(3_000, country="IR"), False),  # declined, and it was genuine
        (payment(500), True),  # missed
        (payment(1_000), False),
        (payment(700), None),
    )
    cells = {(c["action"], c["truth"]): (c["payments"], c["amount_usd_minor"]) for c in found["matrix"]}
    assert {cell: n for cell, n in cells.items() if n != (0, 0)} == {
        ("review", "fraud"): (1, 3_000_000),
        ("decline", "fraud"): (1, 1_000),
        ("decline", "genuine"): (1, 3_000),
        ("model", "fraud"): (1, 500),
        ("model", "genuine"): (1, 1_000),
        ("model", "unknown"): (1, 700),
    }
    assert (found["payments"], found["labelled"]) == (6, 5)
    assert found["declined"]["by_number"] == {"precision": 1 / 2, "recall": 1 / 3, "false_alarms": 1 / 2}
    assert found["declined"]["by_amount"]["precision"] == 1_000 / 4_000
    assert found["declined_or_reviewed"]["by_number"]["recall"] == 2 / 3
    assert found["declined_or_reviewed"]["by_amount"]["recall"] == 3_001_000 / 3_001_500


def test_what_each_rule_found_is_told() -> None:
    found = counted(
        (payment(country="IR"), True), (payment(country="IR"), False), (payment(country=None), None)
    )
    [rule] = [rule for rule in found["rules"] if rule["rule"] == "sanctioned_country"]
    assert (rule["fraud"], rule["genuine"], rule["unknown"], rule["untold"]) == (1, 1, 0, 1)


def test_amounts_in_other_currencies_are_converted_and_those_without_a_rate_counted_apart() -> None:
    found = counted((payment(1_000, currency="EUR"), True), (payment(1_000, currency="XOF"), True))
    assert found["without_amount"] == 1
    assert sum(cell["amount_usd_minor"] for cell in found["matrix"]) == 1_100


def test_rates_of_nothing_are_none() -> None:
    assert counted()["declined"]["by_number"] == {"precision": None, "recall": None, "false_alarms": None}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2_000_000), st.sampled_from(("US", "IR")), st.sampled_from((True, False, None))
        ),
        max_size=20,
    )
)
def test_every_payment_stands_in_one_cell_with_its_amount(judged: list[tuple[int, str, bool | None]]) -> None:
    found = counted(*((payment(amount, country=country), truth) for amount, country, truth in judged))
    assert sum(cell["payments"] for cell in found["matrix"]) == len(judged)
    assert sum(cell["amount_usd_minor"] for cell in found["matrix"]) == sum(amount for amount, *_ in judged)


ROWS = [
    {
        "payment_id": "p1",
        "is_fraud": True,
        "amount_minor": 1_000_001,
        "currency": "USD",
        "country": "US",
        "lists.block": False,
    },
    {
        "payment_id": "p2",
        "is_fraud": False,
        "amount_minor": 100,
        "currency": "USD",
        "country": "IR",
        "lists.block": True,
    },
]


def written(folder: Path, form: str) -> Path:
    file, table = folder / f"payments.{form}", pa.Table.from_pylist(ROWS)
    if form == "parquet":
        pq.write_table(table, file)
    elif form == "csv":
        pyarrow.csv.write_csv(table, file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_file_of_each_form_is_read_the_same(tmp_path: Path, form: str) -> None:
    read = list(payments_in(written(tmp_path, form)))
    assert read[0] == (
        {
            "amount_minor": 1_000_001,
            "currency": "USD",
            "country": "US",
            "features": {},
            "lists": {"block": False},
        },
        True,
    )
    assert on_file(RULESET, written(tmp_path, form))["payments"] == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("payments.txt", "x", "give a file of"),
        ("payments.parquet", "no parquet", "payments.parquet"),
        ("payments.csv", "is_fraud,amount_minor\ntrue,5\n", "lacks the columns currency"),
        ("payments.csv", "is_fraud,amount_minor,currency\ntrue,-5,USD\n", "payment 1: amount_minor"),
        ("payments.csv", "is_fraud,amount_minor,currency\ntrue,5.5,USD\n", "payment 1: amount_minor"),
        ("payments.csv", "is_fraud,amount_minor,currency\nmaybe,5,USD\n", "payment 1: is_fraud"),
        ("payments.csv", "is_fraud,amount_minor,currency\n7,5,USD\n", "payment 1: is_fraud"),
        (
            "payments.jsonl",
            '{"is_fraud": true, "amount_minor": [5], "currency": "USD"}\n',
            "payment 1: amount_minor",
        ),
        ("payments.jsonl", "{", "payments.jsonl"),
    ],
)
def test_a_file_that_cannot_be_judged_is_refused_by_name(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(FactFileInvalid, match=said):
        on_file(RULESET, file)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FactFileInvalid, match="is not there"):
        on_file(RULESET, tmp_path / "none.csv")


@pytest.mark.requirement("F11")
def test_the_benchmark_can_be_judged(tmp_path: Path) -> None:
    payments, _ = benchmark_payments(customers=10)
    pq.write_table(benchmark_facts(payments), tmp_path / "benchmark.parquet")
    found = on_file(RULESET, tmp_path / "benchmark.parquet")
    assert found["payments"] == found["labelled"] == len(payments)
    frauds = sum(cell["payments"] for cell in found["matrix"] if cell["truth"] == "fraud")
    assert frauds == int(payments.is_fraud.sum())
    total = sum(cell["amount_usd_minor"] for cell in found["matrix"])
    assert total == int(payments.amount_minor.sum())
