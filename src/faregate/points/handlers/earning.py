"""By which version of the earn rules a purchase earns: that which was active when it was authorised.

So what a purchase earns does not depend on how late its event is handled. What came before the first version earns by
the first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from faregate.infra.database import Connection, Database
from faregate.points.domain.earning import EARNING, EarnRates, earn_rule_findings
from faregate.points.domain.programme import Programme
from faregate.points.store.artefacts import load_earn_rules
from faregate.rules import api as rules
from faregate.rules.checks import examine
from faregate.rules.findings import Finding, Severity
from faregate.rules.ruleset import canonical, compile_ruleset
from faregate.rules.store import NoActiveRuleset

_ACTOR = "faregate"


class EarnRules:
    """The versions of the earn rules, each compiled once, and asked once for each category and tier."""

    def __init__(self, rulesets: rules.Rulesets) -> None:
        self._rulesets = rulesets
        self._rates: dict[int, EarnRates] = {}

    async def active_at(self, conn: Connection, instants: Iterable[datetime]) -> dict[datetime, EarnRates]:
        """Return the rates that were active at each of some instants, with one look at the history of activations.

        Raises NoActiveRuleset if no version ever was.
        """
        history = await rules.activations(conn, name=EARNING)
        if not history:
            raise NoActiveRuleset(f"no version of {EARNING} was ever active", name=EARNING)
        since = [one.activated_at for one in history]
        return {
            at: await self._version(conn, history[max(0, bisect_right(since, at) - 1)].version)
            for at in set(instants)
        }

    async def _version(self, conn: Connection, version: int) -> EarnRates:
        found = self._rates.get(version)
        if found is None:
            compiled = await self._rulesets.version(conn, name=EARNING, version=version)
            found = self._rates[version] = EarnRates(compiled)
        return found


def check_earn_rules(document: Mapping[str, Any], programme: Programme) -> list[Finding]:
    """Return all that can be said against earn rules, errors first: in themselves, and for a programme."""
    found = examine(document)
    if any(finding.severity is Severity.ERROR for finding in found):
        return found
    rates = EarnRates(compile_ruleset(canonical(document)))
    return [*earn_rule_findings(document, rates, tiers=_tiers(programme), named=_named(programme)), *found]


def _tiers(programme: Programme) -> Sequence[str]:
    return [tier.name for tier in programme.tiers]


def _named(programme: Programme) -> Sequence[str]:
    return [rule for promotion in programme.promotions for rule in promotion.rules]


async def publish_first_earn_rules(database: Database, *, now: datetime) -> None:
    """Publish and activate the earn rules of the package, unless some are active already."""
    await rules.publish_first(
        database, name=EARNING, document=lambda: load_earn_rules(f"{EARNING}-1"), now=now, by=_ACTOR
    )
