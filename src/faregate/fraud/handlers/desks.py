"""Where operators of fraud work: lists, labels, and rules that are tried. Rulesets themselves are the rules desk's."""

from __future__ import annotations

from dataclasses import dataclass

from faregate.fraud.handlers.labels import LabelDesk
from faregate.fraud.handlers.lists import ListDesk
from faregate.fraud.handlers.trying import RuleTrials
from faregate.infra.database import Database
from faregate.kernel.clock import Clock


@dataclass(frozen=True, kw_only=True)
class FraudDesks:
    """The desks on one database."""

    database: Database
    clock: Clock
    lists: ListDesk
    labels: LabelDesk
    trials: RuleTrials

    @classmethod
    def on(cls, database: Database, *, clock: Clock) -> FraudDesks:
        """Return the desks on a database."""
        return cls(
            database=database,
            clock=clock,
            lists=ListDesk(database=database, clock=clock),
            labels=LabelDesk(database=database, clock=clock),
            trials=RuleTrials(database=database),
        )
