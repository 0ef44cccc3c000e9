"""What a ruleset would have decided: a candidate held against first decisions of the past, on their recorded inputs.

First decisions only, so that each application counts once and no person's verdict is held against rules.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from faregate.credit.domain.comparison import Answer, Comparison
from faregate.credit.domain.decision import replay
from faregate.credit.handlers.tools import giving_way
from faregate.credit.store import history
from faregate.credit.store.artefacts import ArtefactNotFound, load_scorecard
from faregate.infra.database import Connection
from faregate.rules.ruleset import CompiledRuleset
from faregate.rules.split import BASIS_POINTS

PAGE: Final = 500
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Which first decisions are taken: those made in `[since, until)`, a fixed share of them, so many at most."""

    since: datetime = BEGINNING
    until: datetime = END
    basis_points: int = BASIS_POINTS
    decisions_max: int | None = None

    @staticmethod
    def of(
        *,
        since: datetime | None,
        until: datetime | None,
        basis_points: int = BASIS_POINTS,
        decisions_max: int | None = None,
    ) -> Period:
        """Return a period whose ends may be open."""
        return Period(
            since=since or BEGINNING,
            until=until or END,
            basis_points=basis_points,
            decisions_max=decisions_max,
        )


@dataclass(kw_only=True)
class Backtest:
    """A comparison of recorded answers with a candidate's. `not_comparable`: their scorecard is not there any more."""

    candidate: str
    comparison: Comparison = field(default_factory=Comparison)
    not_comparable: int = 0
    is_complete: bool = False

    def document(self) -> dict[str, Any]:
        """Return what was found as JSON values."""
        return {
            "candidate": self.candidate,
            "is_complete": self.is_complete,
            "not_comparable": self.not_comparable,
            **self.comparison.document(),
        }


async def backtest(
    connection: Callable[[], AbstractAsyncContextManager[Connection]],
    candidate: CompiledRuleset,
    *,
    period: Period,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Backtest:
    """Hold a candidate against a period, page by page; `on_progress` hears how many decisions were read."""
    result, read = Backtest(candidate=candidate.label), 0
    async for page in _pages(connection, period):
        async for record in giving_way(page):
            _compare(record, candidate, result)
        read += len(page)
        on_progress(read)
    result.is_complete = period.decisions_max is None or read < period.decisions_max
    return result


async def _pages(
    connection: Callable[[], AbstractAsyncContextManager[Connection]], period: Period
) -> AsyncIterator[list[history.FirstDecision]]:
    after, left = (BEGINNING, ""), period.decisions_max
    while left is None or left > 0:
        limit = PAGE if left is None else min(PAGE, left)
        async with connection() as conn:
            page = await history.first_decisions(
                conn,
                since=period.since,
                until=period.until,
                basis_points=period.basis_points,
                after=after,
                limit=limit,
            )
        if page:
            yield page
            after = (page[-1].decided_at, page[-1].application_id)
        if len(page) < limit:
            return
        left = None if left is None else left - len(page)


def _compare(record: history.FirstDecision, candidate: CompiledRuleset, result: Backtest) -> None:
    try:
        scorecard = load_scorecard(record.scorecard_version)
    except ArtefactNotFound:
        result.not_comparable += 1
        return
    after = Answer.of_result(replay(record.inputs, scorecard=scorecard, ruleset=candidate))
    result.comparison.add(record.application_id, before=Answer.of_record(record.shown), after=after)
