"""What became of redemptions under faults: every booking that stands is paid, and nothing else was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from faregate.bench.chaos.plan import ChaosPlan, Kind
from faregate.bench.chaos.travellers import Begun
from faregate.infra.witness import Outage

LIVE = ("held", "confirmed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One redemption in the end: as travel says, as the partners have it, and as the ledger has it.

    `spent` are the points that are gone from a member who redeemed nothing else, `agreed` those that were held for
    it.
    """

    id: str
    status: str
    was_booked: bool
    legs: int
    live: Sequence[str]
    spent: int
    held: int
    agreed: int

    @property
    def wrong(self) -> str | None:
        """What does not fit together, None when all does."""
        if self.status not in ("booked", "failed", "cancelled"):
            return None  # stranded, which is counted apart
        if self.held:
            return "points are still held"
        if self.status == "booked":
            if len(self.live) != self.legs:
                return f"{len(self.live)} of {self.legs} bookings stand"
            return (
                None
                if self.spent == self.agreed
                else f"{self.spent} points are gone instead of {self.agreed}"
            )
        if self.live:
            return "a booking stands"
        if not self.was_booked and self.spent:
            return f"{self.spent} points are gone for nothing"
        return None if self.spent <= self.agreed else "more points are gone than were held"


@dataclass(frozen=True, slots=True, kw_only=True)
class TripsRun:
    """What came of a run."""

    plan: ChaosPlan
    begun: Begun
    trips: Sequence[Trip]
    live_duplicates: int
    ledger_adds_up: bool
    faults: Mapping[Kind, int]
    world: Mapping[str, int]
    outages: Sequence[Outage]
    tried_again: int
    fault_s: float
    settle_s: float

    @property
    def stranded(self) -> Sequence[str]:
        """The redemptions that have neither ended nor wait for a person."""
        return [trip.id for trip in self.trips if trip.status not in ("booked", "failed", "cancelled")]

    @property
    def wrong(self) -> Mapping[str, str]:
        """What does not fit together, by redemption."""
        return {trip.id: trip.wrong for trip in self.trips if trip.wrong is not None}

    @property
    def checks(self) -> Mapping[str, bool]:
        """What must hold, by its sentence."""
        return {
            f"nothing stranded {self.plan.settle_s_max:g} s after the faults stopped": not self.stranded,
            "no booking stands twice": self.live_duplicates == 0,
            "points are spent if and only if the partners' bookings stand": not self.wrong,
            "the ledger adds up": self.ledger_adds_up,
            "every kind of fault happened": all(self.faults.get(kind, 0) for kind in self.plan.kinds),
            "PostgreSQL was seen down": bool(self.outages),
            f"at least {self.plan.applications:,} redemptions": len(self.trips) >= self.plan.applications,
        }

    def document(self) -> dict[str, Any]:
        """Return the run as one JSON document. Times in seconds."""
        struck: Counter[str] = Counter()
        for name, count in self.world.items():
            partner, _, fault = name.partition(":")
            if partner in self.plan.providers and fault != "calls":
                struck[fault] += count
        return {
            "name": "chaos-travel",
            "seed": self.plan.seed,
            "redemptions": len(self.trips),
            "ends": dict(Counter(trip.status for trip in self.trips)),
            "answers_to_new_prices": self.begun.answered,
            "cancellations": self.begun.cancelled,
            "tried_again_by_an_operator": self.tried_again,
            "faults": {kind.value: self.faults.get(kind, 0) for kind in self.plan.kinds},
            "struck": dict(sorted(struck.items())),
            "postgres_down": {
                "outages": len(self.outages),
                "seconds": round(sum(outage.end - outage.begin for outage in self.outages), 2),
            },
            "fault_s": round(self.fault_s, 1),
            "settle_s": round(self.settle_s, 1),
            "stranded": list(self.stranded),
            "wrong": dict(self.wrong),
            "live_duplicates": self.live_duplicates,
            "checks": dict(self.checks),
        }

    def table(self) -> Table:
        """Return the short table."""
        document = self.document()
        lines = Table(title="chaos travel", show_header=False, title_justify="left", min_width=60)
        for name, count in {**document["faults"], **document["struck"]}.items():
            lines.add_row(name.replace("_", " "), f"{count:,}")
        lines.add_section()
        for name, count in document["ends"].items():
            lines.add_row(name, f"{count:,}")
        for name in ("answers_to_new_prices", "cancellations", "tried_again_by_an_operator"):
            lines.add_row(name.replace("_", " "), f"{document[name]:,}")
        lines.add_row("settled after", f"{self.settle_s:.0f} s")
        lines.add_section()
        for sentence, holds in self.checks.items():
            lines.add_row(sentence, "[green]yes" if holds else "[red]NO")
        return lines
