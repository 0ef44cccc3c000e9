"""Who lives in the sandbox: an identity for every number, a row of the sample data behind every identity.

`person(i)` is the same for ever. The first 1,000 people are the rows of `german_credit.csv` in their order;
later ones are other people over the same rows, and whoever is typed by hand is led to a row by a hash of the
identity. What no row tells (fraud, watch lists, papers, a payslip that disagrees) is drawn from such a hash
too, at the rates below and independent of creditability.

What a provider makes of a person does not belong here; that is the provider's own file.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from faregate.credit.domain.facts import fact_value
from faregate.sandbox.names import legal_name, number_of

REFERENCE_DATE: Final = date(2026, 1, 1)
"""The day on which a person is as old as the row says."""

WATCHLIST_SHARE: Final = 0.01
UNVERIFIED_SHARE: Final = 0.015
FRAUD_HIGH_SHARE: Final = 0.01
FRAUD_MEDIUM_SHARE: Final = 0.04
INCOME_OVERSTATED_SHARE: Final = 0.03

_INCOME_OF_JOB: Final = {
    "unemployed/ unskilled - non-resident": 16_000,
    "unskilled - resident": 24_000,
    "skilled employee / official": 42_000,
    "management/ self-employed/ highly qualified employee/ officer": 78_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an applicant states about himself; `annual_income` in whole units."""

    legal_name: str
    dob: str
    ssn_last4: str
    annual_income: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Person(Identity):
    """An identity together with its row of the sample data."""

    number: int
    row: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that the world knows of one identity. `fraud_score` is 0-1, higher is worse."""

    row: Mapping[str, str]
    identity_verified: bool
    watchlist_match: bool
    fraud_level: str
    fraud_score: float
    annual_income_verified: int


@lru_cache(maxsize=1)
def rows() -> tuple[Mapping[str, str], ...]:
    """Return the sample data, label for label, in its order."""
    text = (files("faregate") / "sample_data" / "german_credit.csv").read_text(encoding="utf-8")
    return tuple(MappingProxyType(row) for row in csv.DictReader(text.splitlines()))


def person(number: int) -> Person:
    """Return the person of a number >= 0."""
    row = rows()[number % len(rows())]
    name = legal_name(number)
    income_share = 0.8 + 0.4 * _unit("income", name)
    return Person(
        number=number,
        legal_name=name,
        dob=_birthday(int(row["age_in_years"]), within_year=_unit("birthday", name)),
        ssn_last4=f"{int(_unit('ssn', name) * 10_000):04d}",
        annual_income=round(_INCOME_OF_JOB[row["job"]] * income_share / 100) * 100,
        row=row,
    )


def application(number: int) -> dict[str, Any]:
    """Return the body with which the person of a number applies: the form, the amount and the purpose."""
    someone = person(number)
    return {
        "product_type": "cashback_card",
        "applicant": {
            "legal_name": someone.legal_name,
            "dob": someone.dob,
            "ssn_last4": someone.ssn_last4,
            "annual_income": someone.annual_income,
        },
        "amount": int(someone.row["credit_amount"]),
        "purpose": fact_value("purpose", label=someone.row["purpose"]),
    }


def record_of(identity: Identity) -> Record:
    """Return what the world knows of an identity, whoever typed it. The same for the same identity."""
    key = f"{identity.legal_name.casefold()}|{identity.dob}|{identity.ssn_last4}"
    level, score = _fraud(_unit("fraud", key))
    return Record(
        row=rows()[_row_number(identity, key)],
        identity_verified=_unit("papers", key) >= UNVERIFIED_SHARE,
        watchlist_match=_unit("watchlist", key) < WATCHLIST_SHARE,
        fraud_level=level,
        fraud_score=score,
        annual_income_verified=_verified_income(identity.annual_income, _unit("payslip", key)),
    )


def _row_number(identity: Identity, key: str) -> int:
    number = number_of(identity.legal_name)
    if number is not None:
        known = person(number)
        if (known.dob, known.ssn_last4) == (identity.dob, identity.ssn_last4):
            return number % len(rows())
    return int(_unit("row", key) * len(rows()))


def _fraud(unit: float) -> tuple[str, float]:
    """Return level and score so that the score is spread evenly inside each level's band."""
    if unit < FRAUD_HIGH_SHARE:
        return "high", round(0.80 + 0.19 * unit / FRAUD_HIGH_SHARE, 3)
    if unit < FRAUD_HIGH_SHARE + FRAUD_MEDIUM_SHARE:
        return "medium", round(0.40 + 0.35 * (unit - FRAUD_HIGH_SHARE) / FRAUD_MEDIUM_SHARE, 3)
    return "low", round(0.01 + 0.29 * unit, 3)


def _verified_income(stated: int, unit: float) -> int:
    """Most payslips agree with the form; a few show between half and four fifths of what was stated."""
    if unit >= INCOME_OVERSTATED_SHARE:
        return stated
    return int(stated * (0.5 + 0.3 * unit / INCOME_OVERSTATED_SHARE))


def _birthday(age_years: int, *, within_year: float) -> str:
    latest = REFERENCE_DATE.replace(year=REFERENCE_DATE.year - age_years)
    return (latest - timedelta(days=int(within_year * 365))).isoformat()


def _unit(purpose: str, key: str) -> float:
    """Return a number in [0, 1) that depends on nothing but its arguments."""
    digest = blake2b(f"{purpose}|{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)
