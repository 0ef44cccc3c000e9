"""Check plans: which checks a product needs, which of them are mandatory, and how long each may take. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from faregate.credit.domain.checks import CHECKS
from faregate.kernel.errors import InvalidError

_FIELDS: Final = frozenset({"mandatory", "budget_s"})
_TOP: Final = frozenset({"version", "default", "product"})


class CheckPlansRefused(InvalidError):
    """The check plans cannot be used; the message names the place and what is wrong there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCheck:
    """One check of a plan. `budget_s` is the longest that it may take, None for the application's deadline."""

    mandatory: bool
    budget_s: float | None = None

    def deadline(self, *, now: datetime, application_deadline: datetime) -> datetime:
        """Return when the check must have settled."""
        if self.budget_s is None:
            return application_deadline
        return min(application_deadline, now + timedelta(seconds=self.budget_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    """The checks of one application, by name in their standard order, under the version of the plans."""

    version: str
    checks: Mapping[str, PlannedCheck]

    @property
    def asked(self) -> tuple[str, ...]:
        """Every check that is asked."""
        return tuple(self.checks)

    @property
    def mandatory(self) -> tuple[str, ...]:
        """The checks without which only a person decides."""
        return tuple(check for check, planned in self.checks.items() if planned.mandatory)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlans:
    """The plans in force: the default, and those of products that differ."""

    default: CheckPlan
    products: Mapping[str, CheckPlan]

    def of(self, product_type: str) -> CheckPlan:
        """Return the plan of a product."""
        return self.products.get(product_type, self.default)


def read_check_plans(document: Mapping[str, Any]) -> CheckPlans:
    """Return the plans that a document describes. Raises `CheckPlansRefused` at the first fault."""
    if unknown := sorted(document.keys() - _TOP):
        raise CheckPlansRefused(
            f"nothing is called {', '.join(unknown)}; there are version, default, product"
        )
    version = document.get("version")
    if not isinstance(version, str) or not version:
        raise CheckPlansRefused('version is missing: name the plans, such as version = "checks-1"')
    products = document.get("product", {})
    if not isinstance(products, Mapping):
        raise CheckPlansRefused("product must hold one table a product: [product.student_card]")
    return CheckPlans(
        default=_plan("default", document.get("default"), version=version),
        products={name: _plan(f"product.{name}", table, version=version) for name, table in products.items()},
    )


def _plan(place: str, table: object, *, version: str) -> CheckPlan:
    if not isinstance(table, Mapping):
        raise CheckPlansRefused(f"[{place}] must be a table with one entry a check")
    if unknown := sorted(table.keys() - set(CHECKS)):
        raise CheckPlansRefused(
            f"[{place}] no check is called {', '.join(unknown)}; there are {', '.join(CHECKS)}"
        )
    checks = {check: _planned(f"{place}.{check}", table[check]) for check in CHECKS if check in table}
    plan = CheckPlan(version=version, checks=checks)
    if not plan.mandatory:
        raise CheckPlansRefused(f"[{place}] has no mandatory check: everybody would be decided on nothing")
    return plan


def _planned(place: str, entry: object) -> PlannedCheck:
    if (
        not isinstance(entry, Mapping)
        or not isinstance(entry.get("mandatory"), bool)
        or entry.keys() - _FIELDS
    ):
        raise CheckPlansRefused(
            f"{place} must look like {{ mandatory = true, budget_s = 20 }}; budget_s may be left out"
        )
    budget_s = entry.get("budget_s")
    if budget_s is None:
        return PlannedCheck(mandatory=entry["mandatory"])
    if isinstance(budget_s, bool) or not isinstance(budget_s, int | float) or not 0 < budget_s < float("inf"):
        raise CheckPlansRefused(f"{place}.budget_s must be a number of seconds above 0, not {budget_s!r}")
    return PlannedCheck(mandatory=entry["mandatory"], budget_s=float(budget_s))
