"""Reconciles the ledger: entries, balances, lots, cuts, holds and reversals must add up, account by account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from faregate.infra.database import Database
from faregate.points.domain.reconciliation import breaks_of
from faregate.points.store.records import entry_sums, records_after

PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What a reconciliation found: `breaks` by member. `unbalanced` are layers whose entries do not add up to 0."""

    accounts: int = 0
    operations: int = 0
    unbalanced: Sequence[str] = ()
    breaks: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether everything adds up."""
        return not self.breaks and not self.unbalanced


async def reconcile(
    database: Database,
    *,
    member_ids: Sequence[str] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Reconciliation:
    """Check all accounts, or those of some members, each page at one instant."""
    accounts = operations = after = 0
    breaks: dict[str, list[str]] = {}
    while True:
        async with database.transaction() as conn:
            await conn.execute("set transaction isolation level repeatable read, read only")
            page = await records_after(conn, after=after, limit=PAGE, member_ids=member_ids)
            sums = await entry_sums(conn) if not page else {}
        if not page:
            unbalanced = tuple(f"{layer}: {amount}" for layer, amount in sums.items() if amount)
            return Reconciliation(
                accounts=accounts, operations=operations, unbalanced=unbalanced, breaks=breaks
            )
        for records in page:
            if found := breaks_of(records):
                breaks[records.account.member_id] = found
            operations += len(records.done)
        accounts, after = accounts + len(page), page[-1].account.no
        on_progress(accounts)
