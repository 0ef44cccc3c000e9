"""What a purchase earns by merchant category and tier: a ruleset says it, in text that is read as exact fractions.

The engine is asked once for each category and tier, and what it said is kept: a version never changes. Promotions and
caps are not its business; they stand in `programme`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Protocol

from faregate.kernel.errors import InvalidError
from faregate.points.contracts.programme import Rate
from faregate.rules.contracts import Evaluation
from faregate.rules.expressions import literals_of
from faregate.rules.findings import Finding, Kind

EARNING: Final = "points-earning"
"""The name of the ruleset by which purchases earn."""
CATEGORY_MAX: Final = 9_999


class EarnRulesUnfit(InvalidError):
    """The ruleset does not say what a purchase of some category earns in some tier."""


class EarnTable(Protocol):
    """A version of the ruleset, ready to be asked."""

    @property
    def label(self) -> str:
        """The version, such as `points-earning-1`."""

    def evaluate(self, context: Mapping[str, Any]) -> Evaluation:
        """Return the answer to a context. Raises RulesetInputRefused or RulesetFailed."""


class EarnRates:
    """The rates of one version of the ruleset, each asked for once."""

    def __init__(self, table: EarnTable) -> None:
        self._table = table
        self._known: dict[tuple[int, str], Rate] = {}

    @property
    def label(self) -> str:
        """The version of the ruleset, as earns record it."""
        return self._table.label

    def rate(self, category: int, tier: str) -> Rate:
        """Return by what a purchase of a category earns in a tier. Raises EarnRulesUnfit."""
        found = self._known.get((category, tier))
        if found is None:
            found = self._known[category, tier] = self._asked(category, tier)
        return found

    def _asked(self, category: int, tier: str) -> Rate:
        try:
            result = self._table.evaluate({"merchant_category": category, "tier": tier}).result
            rate = Rate(
                rule=str(result["rule"]),
                points_per_unit=Fraction(result["points_per_unit"]),
                multiplier=Fraction(result["multiplier"]),
            )
            if min(rate.points_per_unit, rate.multiplier) < 0:
                raise ValueError("a factor is negative")
        except (InvalidError, LookupError, TypeError, ValueError, ZeroDivisionError) as error:
            raise EarnRulesUnfit(
                f"{self.label} does not say what category {category} earns in tier {tier}: {error}",
                ruleset=self.label,
            ) from error
        return rate


def earn_rule_findings(
    document: Mapping[str, Any], rates: EarnRates, *, tiers: Sequence[str], named: Sequence[str]
) -> Iterator[Finding]:
    """Return why the programme could not earn by a ruleset that is sound in itself.

    It is asked on both sides of each category that its cells name, in all tiers. `named` are the rules that promotions
    speak of: one that no purchase earns by is a misspelling on either side.
    """
    rules: set[str] = set()
    for tier in tiers:
        for category in _categories(document):
            try:
                rules.add(rates.rate(category, tier).rule)
            except EarnRulesUnfit as unfit:
                yield Finding(message=unfit.detail, kind=Kind.GRAPH)
                break
    if missing := sorted(set(named) - rules):
        message = f"promotions of the programme name rules by which nothing earns: {', '.join(missing)}"
        yield Finding(message=message, kind=Kind.GRAPH)


def _categories(document: Mapping[str, Any]) -> list[int]:
    """Return the categories that cells name, and their neighbours."""
    cells = [
        cell
        for node in document["graph"]["nodes"]
        for rule in node["content"].get("rules", ())
        for column in node["content"].get("inputs", ())
        if isinstance(cell := rule.get(column["id"]), str)
    ]
    named = {int(found) for cell in cells for found in literals_of(cell) if isinstance(found, Decimal)}
    near = {category + step for category in named | {0} for step in (-1, 0, 1)}
    return sorted(category for category in near if 0 <= category <= CATEGORY_MAX)
