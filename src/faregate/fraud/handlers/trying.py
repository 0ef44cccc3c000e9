"""What a ruleset of fraud would have said, or says beside the one that decides: backtests, shadows, shares."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from faregate.fraud.domain.confusion import Confusion
from faregate.fraud.domain.rule_check import FRAUD
from faregate.fraud.store import decided as store
from faregate.fraud.store.decided import JudgedPayment
from faregate.fraud.store.fact_files import payments_in
from faregate.infra.database import Connection, Database
from faregate.kernel.errors import ConflictError, InvalidError
from faregate.rules import api as rules
from faregate.rules.compiled import Fired, HotEvaluation, HotRuleset, compile_hot
from faregate.rules.ruleset import parse_label
from faregate.rules.store import NoActiveRuleset

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)
PAGE: Final = 500
EXAMPLES_MAX: Final = 20
BURST: Final = 200
"""So many payments are judged before the process's other work has its turn."""
SAY_EVERY: Final = 10_000

Say = Callable[[int], None]
"""Hears how many payments were read."""


class NothingWatched(ConflictError):
    """No version of the rules watches; name the one that did."""


class NotOfFraud(InvalidError):
    """The ruleset does not judge payments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Decisions made in `[since, until)`, so many at most."""

    since: datetime = BEGINNING
    until: datetime = END
    payments_max: int | None = None


@dataclass(frozen=True, kw_only=True)
class RuleTrials:
    """Holds rules against the past and against each other."""

    database: Database

    async def ruleset(self, conn: Connection, label: str) -> HotRuleset:
        """Return a published version. Raises RulesetLabelInvalid, RulesetVersionNotFound or NotOfFraud."""
        name, version = parse_label(label)
        if name != FRAUD:
            raise NotOfFraud(f"{name} does not judge payments: {FRAUD} does")
        return compile_hot(await rules.content_of(conn, name=name, version=version))

    async def on_decisions(
        self,
        ruleset: HotRuleset,
        *,
        period: Period,
        only_labelled: bool = False,
        say: Say = lambda _: None,
    ) -> Mapping[str, Any]:
        """Let a ruleset judge decided payments again, on what was recorded of them; return the confusion."""
        confusion, after, left = Confusion(ruleset=ruleset), "", period.payments_max
        while left is None or left > 0:
            limit = PAGE if left is None else min(PAGE, left)
            async with self.database.connection() as conn:
                page = await store.judged(
                    conn,
                    since=period.since,
                    until=period.until,
                    only_labelled=only_labelled,
                    after=after,
                    limit=limit,
                )
            for number, one in enumerate(page):
                confusion.add(facts_of_record(one), is_fraud=one.is_fraud)
                if number % BURST == 0:
                    await asyncio.sleep(0)
            say(confusion.payments.total())
            if len(page) < limit:
                break
            after, left = page[-1].id, None if left is None else left - len(page)
        return confusion.document()

    async def shadow_report(
        self,
        conn: Connection,
        *,
        label: str | None = None,
        since: datetime = BEGINNING,
        until: datetime = END,
        now: datetime,
    ) -> Mapping[str, Any]:
        """Return how far a shadow agrees with what decided: the version that watches now, unless one is named.

        Raises NothingWatched, and what `ruleset` raises.
        """
        label = label or await self._watching(conn, now)
        name, version = parse_label(label)
        shadow = await self.ruleset(conn, label)
        found = await store.shadowed(conn, name=name, version=version, since=since, until=until)
        deciding = {
            number: await self.ruleset(conn, f"{name}-{number}") for number in {one.version for one in found}
        }
        cells: Counter[tuple[str, str]] = Counter()
        differing = []
        for one in found:
            said, watched = _action(deciding[one.version], one.fired), _action(shadow, one.shadow_fired)
            cells[said, watched] += one.payments
            if said != watched:
                differing.append(
                    {
                        "decided": said,
                        "shadow": watched,
                        "only_decided": sorted(set(one.fired) - set(one.shadow_fired)),
                        "only_shadow": sorted(set(one.shadow_fired) - set(one.fired)),
                        "currency": one.currency,
                        "payments": one.payments,
                        "amount_minor": one.amount_minor,
                        "example": one.example,
                    }
                )
        total, agreed = cells.total(), sum(n for (a, b), n in cells.items() if a == b)
        differing.sort(key=lambda line: (-int(str(line["payments"])), str(line["example"])))
        return {
            "shadow": label,
            "payments": total,
            "agreement_rate": agreed / total if total else None,
            "matrix": [{"decided": a, "shadow": b, "payments": n} for (a, b), n in sorted(cells.items())],
            "differing": differing[:EXAMPLES_MAX],
        }

    async def share_report(
        self, conn: Connection, *, since: datetime = BEGINNING, until: datetime = END
    ) -> Mapping[str, Any]:
        """Return what each version decided, with the frauds that are known since: how a challenger does."""
        found = await store.by_version(conn, name=FRAUD, since=since, until=until)
        return {
            "name": FRAUD,
            "decided": [{"ruleset": f"{FRAUD}-{row.pop('version')}", **row} for row in found],
        }

    async def _watching(self, conn: Connection, now: datetime) -> str:
        try:
            version = (await rules.traffic(conn, name=FRAUD, at=now)).shadow_version
        except NoActiveRuleset:
            version = None
        if version is None:
            raise NothingWatched(f"no version of {FRAUD} watches; name the one that did")
        return f"{FRAUD}-{version}"


def on_file(ruleset: HotRuleset, file: Path, *, say: Say = lambda _: None) -> Mapping[str, Any]:
    """Let a ruleset judge the payments of a file; return the confusion. Raises FactFileInvalid."""
    confusion = Confusion(ruleset=ruleset)
    for number, (facts, is_fraud) in enumerate(payments_in(file), start=1):
        confusion.add(facts, is_fraud=is_fraud)
        if number % SAY_EVERY == 0:
            say(number)
    return confusion.document()


def facts_of_record(found: JudgedPayment) -> dict[str, Any]:
    """Return what rules saw of a payment that was decided."""
    payment = found.payment
    at = datetime.fromisoformat(payment["occurred_at"]).astimezone(UTC)
    names = ("card_token", "member_id", "payment_id", "occurred_at")
    own = {name: value for name, value in payment.items() if name not in names}
    return {**own, "hour": at.hour, "features": found.features or {}, "lists": found.lists}


def _action(ruleset: HotRuleset, fired: Iterable[str]) -> str:
    """Return what the rules that fired decide."""
    known: dict[str, Fired] = {rule.rule: rule for rule in ruleset.rules}
    found = HotEvaluation(fired=tuple(known[rule] for rule in fired if rule in known), unknown=())
    return "model" if found.action is None else found.action.value
