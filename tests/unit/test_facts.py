"""The facts of a decision: one slug a label of the sample data, and nothing that may never be an input."""

from __future__ import annotations

import csv

import pytest

from faregate.credit.domain import facts
from faregate.credit.domain.features import CANDIDATES, FOLD_FEATURES
from faregate.credit.store.scorecards import SAMPLE

TABLE = list(csv.DictReader(SAMPLE.read_text(encoding="utf-8").splitlines()))


def test_every_label_of_the_sample_data_has_a_fact() -> None:
    assert len(TABLE) == 1000
    for row in TABLE:
        assert facts.facts_of_row(row).keys() == facts.FACTS.keys()


def test_every_category_occurs_in_the_sample_data() -> None:
    seen = {name: {facts.facts_of_row(row)[name] for row in TABLE} for name in facts.FACTS}
    for name, fact in facts.FACTS.items():
        assert not fact.values or fact.values == seen[name]


def test_facts_of_one_source_leave_the_others_out() -> None:
    known = facts.facts_of_row(TABLE[0], source=facts.Source.KYC)
    assert known == {"housing": "own", "residence_years": 4, "telephone": True, "dependants": 1}


@pytest.mark.parametrize(("name", "label"), [("purpose", "yacht"), ("amount", "much"), ("amount", "")])
def test_an_unknown_label_is_a_named_error(name: str, label: str) -> None:
    with pytest.raises(facts.UnknownFactLabel):
        facts.fact_value(name, label=label)


@pytest.mark.requirement("C3")
def test_age_sex_and_foreign_worker_are_neither_facts_nor_features() -> None:
    used = {facts.FACTS[feature.fact].column for feature in CANDIDATES}
    used |= {facts.FACTS[name].column for name in FOLD_FEATURES}
    used |= {fact.column for fact in facts.FACTS.values()}
    assert not used & set(facts.NEVER_INPUTS)


def test_facts_do_not_change_with_age_sex_or_foreign_worker() -> None:
    row = dict(TABLE[0])
    assert facts.facts_of_row(row | dict.fromkeys(facts.NEVER_INPUTS, "anything")) == facts.facts_of_row(row)
