"""The payments that a benchmark of features asks about: the same ones for ours and for the peer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from faregate.features.declarations import FRACTIONS, OF_ITSELF, Entity, Value
from faregate.features.facts import FeatureEvent
from faregate.features.payments import PAYMENTS, payment_fact

BEGINS: Final = datetime(2026, 3, 2, tzinfo=UTC)
APART: Final = timedelta(seconds=20)
SHOPS, TERMINALS = 200, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A payment as it comes in."""

    payment_id: str
    at: datetime
    amount_minor: int
    merchant: str
    merchant_category: int
    card_token: str
    member_id: str
    terminal_id: str
    device_id: str
    ip_token: str
    country: str

    def fact(self) -> FeatureEvent:
        """Return what it is to features."""
        return payment_fact(
            payment_id=self.payment_id,
            at=self.at,
            observed_at=self.at,
            amount_minor=self.amount_minor,
            merchant=self.merchant,
            merchant_category=self.merchant_category,
            card_token=self.card_token,
            member_id=self.member_id,
            terminal_id=self.terminal_id,
            device_id=self.device_id,
            ip_token=self.ip_token,
            country=self.country,
            channel="online",
        )


def payments(*, people: int, first: int = 0, seed: int = 0) -> Iterator[Asked]:
    """Yield payments of so many people without end, in the order of their times."""
    draw = random.Random(seed)  # noqa: S311 - a workload
    number = first
    while True:
        who, where = draw.randrange(people), draw.randrange(SHOPS)
        yield Asked(
            payment_id=f"pay_{number}",
            at=BEGINS + number * APART,
            amount_minor=draw.randint(100, 50_000),
            merchant=f"mer_{where}",
            merchant_category=5_000 + where % 40,
            card_token=f"crd_{who}",
            member_id=f"mbr_{who}",
            terminal_id=f"ter_{draw.randrange(TERMINALS)}",
            device_id=f"dev_{who}",
            ip_token=f"ip_{who // 2}",
            country="DE",
        )
        number += 1


def views() -> Mapping[str, Mapping[str, str]]:
    """Return the features by entity, each `int` or `float`: what a feature store that computes nothing would hold."""
    found: dict[str, dict[str, str]] = {}
    for feature in PAYMENTS.features:
        if feature.aggregate not in OF_ITSELF:
            kind = "float" if feature.aggregate in FRACTIONS else "int"
            found.setdefault(str(feature.by), {})[feature.name] = kind
    return found


class Rows:
    """What the engine said last of each entity: the rows of a store that holds the values ready."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in views()}

    def note(self, event: FeatureEvent, values: Mapping[str, Value]) -> None:
        """Note the values of one payment."""
        for view, features in views().items():
            name = event.entities[Entity(view)]
            self._rows[view][name] = {view: name, **{feature: values[feature] for feature in features}}

    def by_view(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the rows of each view."""
        return {view: list(rows.values()) for view, rows in self._rows.items()}
