"""The facts that a credit decision may know of an applicant, and how the sample data spells them.

One slug a category, one mapping from the labels of `german_credit.csv` to those slugs: provider adapters
and training both read it, so that a provider's answer and a training row mean the same thing. What a fact is
worth does not belong here; that is the scorecard's.

Age, sex and personal status, and the foreign-worker flag have no slug on purpose: they are never facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from faregate.kernel.errors import InvalidError

FactValue = str | int | bool


class UnknownFactLabel(InvalidError):
    """A label of the sample data that has no slug."""


class CheckingAccount(StrEnum):
    """Balance of the checking account, in whole units."""

    NONE = "none"
    NEGATIVE = "negative"
    UNDER_200 = "under_200"
    OVER_200 = "over_200"


class CreditHistory(StrEnum):
    """How earlier credits were repaid, as the bureau knows it."""

    NO_CREDITS = "no_credits"
    ALL_PAID_HERE = "all_paid_here"
    PAID_SO_FAR = "paid_so_far"
    PAST_DELAYS = "past_delays"
    CRITICAL = "critical"


class Purpose(StrEnum):
    """What the credit is for; the applicant's own statement on the form."""

    CAR_NEW = "car_new"
    CAR_USED = "car_used"
    FURNITURE = "furniture"
    RADIO_TELEVISION = "radio_television"
    APPLIANCES = "appliances"
    REPAIRS = "repairs"
    EDUCATION = "education"
    RETRAINING = "retraining"
    BUSINESS = "business"
    OTHER = "other"


class Savings(StrEnum):
    """Savings and bonds, in whole units."""

    UNKNOWN_OR_NONE = "unknown_or_none"
    UNDER_100 = "under_100"
    UNDER_500 = "under_500"
    UNDER_1000 = "under_1000"
    OVER_1000 = "over_1000"


class Employment(StrEnum):
    """Years in the present employment."""

    UNEMPLOYED = "unemployed"
    UNDER_1_YEAR = "under_1_year"
    UNDER_4_YEARS = "under_4_years"
    UNDER_7_YEARS = "under_7_years"
    OVER_7_YEARS = "over_7_years"


class Occupation(StrEnum):
    """Kind of work."""

    UNSKILLED_NON_RESIDENT = "unskilled_non_resident"
    UNSKILLED_RESIDENT = "unskilled_resident"
    SKILLED = "skilled"
    MANAGEMENT = "management"


class Guarantors(StrEnum):
    """Who else answers for the debt."""

    NONE = "none"
    CO_APPLICANT = "co_applicant"
    GUARANTOR = "guarantor"


class Property(StrEnum):
    """The most valuable property, in the order of the data set."""

    REAL_ESTATE = "real_estate"
    SAVINGS_AGREEMENT = "savings_agreement"
    CAR_OR_OTHER = "car_or_other"
    NONE = "none"


class InstallmentPlans(StrEnum):
    """Other installment plans and who granted them."""

    NONE = "none"
    BANK = "bank"
    STORES = "stores"


class Housing(StrEnum):
    """How the applicant lives."""

    OWN = "own"
    RENT = "rent"
    FREE = "free"


class FraudLevel(StrEnum):
    """The fraud provider's verdict."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Check(StrEnum):
    """The checks that a decision may need. Several providers can serve one check."""

    BUREAU = "bureau"
    KYC = "kyc"
    FRAUD = "fraud"
    INCOME = "income"


class Source(StrEnum):
    """Where a fact comes from: the application form or one of the checks."""

    FORM = "form"
    BUREAU = "bureau"
    KYC = "kyc"
    INCOME = "income"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One attribute: its name among the facts, the data set's column, its source, and label -> value.

    `values` are the categories that it may take; a fact without categories is a whole number.
    """

    name: str
    column: str
    source: Source
    read: Callable[[str], FactValue]
    values: frozenset[FactValue]

    def value(self, label: str) -> FactValue:
        """Return the fact that a label of the data set stands for. Raises `UnknownFactLabel`."""
        try:
            return self.read(label)
        except (KeyError, ValueError) as error:
            raise UnknownFactLabel(
                f"{label!r} is no label of {self.column}", column=self.column, label=label
            ) from error


def _labels(labels: Mapping[str, FactValue]) -> Callable[[str], FactValue]:
    return MappingProxyType(dict(labels)).__getitem__


CHECKING_ACCOUNT_LABELS: Final[Mapping[str, FactValue]] = {
    "no checking account": CheckingAccount.NONE.value,
    "... < 0 DM": CheckingAccount.NEGATIVE.value,
    "0 <= ... < 200 DM": CheckingAccount.UNDER_200.value,
    "... >= 200 DM / salary assignments for at least 1 year": CheckingAccount.OVER_200.value,
}
CREDIT_HISTORY_LABELS: Final[Mapping[str, FactValue]] = {
    "no credits taken/ all credits paid back duly": CreditHistory.NO_CREDITS.value,
    "all credits at this bank paid back duly": CreditHistory.ALL_PAID_HERE.value,
    "existing credits paid back duly till now": CreditHistory.PAID_SO_FAR.value,
    "delay in paying off in the past": CreditHistory.PAST_DELAYS.value,
    "critical account/ other credits existing (not at this bank)": CreditHistory.CRITICAL.value,
}
PURPOSE_LABELS: Final[Mapping[str, FactValue]] = {
    "car (new)": Purpose.CAR_NEW.value,
    "car (used)": Purpose.CAR_USED.value,
    "furniture/equipment": Purpose.FURNITURE.value,
    "radio/television": Purpose.RADIO_TELEVISION.value,
    "domestic appliances": Purpose.APPLIANCES.value,
    "repairs": Purpose.REPAIRS.value,
    "education": Purpose.EDUCATION.value,
    "retraining": Purpose.RETRAINING.value,
    "business": Purpose.BUSINESS.value,
    "others": Purpose.OTHER.value,
}
SAVINGS_LABELS: Final[Mapping[str, FactValue]] = {
    "unknown/ no savings account": Savings.UNKNOWN_OR_NONE.value,
    "... < 100 DM": Savings.UNDER_100.value,
    "100 <= ... < 500 DM": Savings.UNDER_500.value,
    "500 <= ... < 1000 DM": Savings.UNDER_1000.value,
    "... >= 1000 DM": Savings.OVER_1000.value,
}
EMPLOYMENT_LABELS: Final[Mapping[str, FactValue]] = {
    "unemployed": Employment.UNEMPLOYED.value,
    "... < 1 year": Employment.UNDER_1_YEAR.value,
    "1 <= ... < 4 years": Employment.UNDER_4_YEARS.value,
    "4 <= ... < 7 years": Employment.UNDER_7_YEARS.value,
    "... >= 7 years": Employment.OVER_7_YEARS.value,
}
OCCUPATION_LABELS: Final[Mapping[str, FactValue]] = {
    "unemployed/ unskilled - non-resident": Occupation.UNSKILLED_NON_RESIDENT.value,
    "unskilled - resident": Occupation.UNSKILLED_RESIDENT.value,
    "skilled employee / official": Occupation.SKILLED.value,
    "management/ self-employed/ highly qualified employee/ officer": Occupation.MANAGEMENT.value,
}
GUARANTORS_LABELS: Final[Mapping[str, FactValue]] = {
    "none": Guarantors.NONE.value,
    "co-applicant": Guarantors.CO_APPLICANT.value,
    "guarantor": Guarantors.GUARANTOR.value,
}
PROPERTY_LABELS: Final[Mapping[str, FactValue]] = {
    "real estate": Property.REAL_ESTATE.value,
    "building society savings agreement/ life insurance": Property.SAVINGS_AGREEMENT.value,
    "car or other, not in attribute Savings account/bonds": Property.CAR_OR_OTHER.value,
    "unknown / no property": Property.NONE.value,
}
INSTALLMENT_PLANS_LABELS: Final[Mapping[str, FactValue]] = {
    "none": InstallmentPlans.NONE.value,
    "bank": InstallmentPlans.BANK.value,
    "stores": InstallmentPlans.STORES.value,
}
HOUSING_LABELS: Final[Mapping[str, FactValue]] = {
    "own": Housing.OWN.value,
    "rent": Housing.RENT.value,
    "for free": Housing.FREE.value,
}
TELEPHONE_LABELS: Final[Mapping[str, FactValue]] = {
    "yes, registered under the customers name": True,
    "none": False,
}


def _fact(name: str, column: str, source: Source, labels: Mapping[str, FactValue] | None = None) -> Fact:
    return Fact(
        name=name,
        column=column,
        source=source,
        read=int if labels is None else _labels(labels),
        values=frozenset((labels or {}).values()),
    )


_ALL: Final = (
    _fact("amount", "credit_amount", Source.FORM),
    _fact("purpose", "purpose", Source.FORM, PURPOSE_LABELS),
    _fact("credit_history", "credit_history", Source.BUREAU, CREDIT_HISTORY_LABELS),
    _fact("existing_credits", "number_of_existing_credits_at_this_bank", Source.BUREAU),
    _fact("installment_plans", "other_installment_plans", Source.BUREAU, INSTALLMENT_PLANS_LABELS),
    _fact("guarantors", "other_debtors_or_guarantors", Source.BUREAU, GUARANTORS_LABELS),
    _fact("installment_rate", "installment_rate_in_percentage_of_disposable_income", Source.BUREAU),
    _fact("property", "property", Source.BUREAU, PROPERTY_LABELS),
    _fact("term_months", "duration_in_month", Source.BUREAU),
    _fact("housing", "housing", Source.KYC, HOUSING_LABELS),
    _fact("residence_years", "present_residence_since", Source.KYC),
    _fact("telephone", "telephone", Source.KYC, TELEPHONE_LABELS),
    _fact("dependants", "number_of_people_being_liable_to_provide_maintenance_for", Source.KYC),
    _fact("employment", "present_employment_since", Source.INCOME, EMPLOYMENT_LABELS),
    _fact("occupation", "job", Source.INCOME, OCCUPATION_LABELS),
    _fact("checking_account", "status_of_existing_checking_account", Source.INCOME, CHECKING_ACCOUNT_LABELS),
    _fact("savings", "savings_account_and_bonds", Source.INCOME, SAVINGS_LABELS),
)
FACTS: Final[Mapping[str, Fact]] = MappingProxyType({fact.name: fact for fact in _ALL})
"""Every fact of the sample data by its name, in a fixed order."""

GOOD_COLUMN: Final = "creditability"
NEVER_INPUTS: Final = ("age_in_years", "personal_status_and_sex", "foreign_worker")
"""Columns that no fact, no feature and no card may read; a fairness report may."""


def facts_of_row(row: Mapping[str, str], *, source: Source | None = None) -> dict[str, FactValue]:
    """Return the facts of a row of `german_credit.csv`, all of them or those of one source."""
    return {
        fact.name: fact.value(row[fact.column]) for fact in _ALL if source is None or fact.source == source
    }


def fact_value(name: str, *, label: str) -> FactValue:
    """Return the value of one fact as a provider that speaks the data set's labels spells it."""
    return FACTS[name].value(label)
