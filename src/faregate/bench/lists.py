"""What full allow and block lists cost a process: memory an entry, and time a payment."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final

from faregate.fraud.contracts.lists import ListKind, ListName
from faregate.fraud.handlers.lists import ListSnapshot
from faregate.fraud.store.lists import Standing

LOOKS: Final = 20_000
_AT: Final = datetime(2026, 11, 27, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """Who takes part in a payment."""

    card_token: str = "crd_00000000000000000000000042"  # noqa: S105 - it stands for a card and opens nothing
    member_id: str = "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"
    merchant: str = "mer_0042"
    ip_token: str = "ip_3d1f0c9b8a7e6d5c4b3a2918"  # noqa: S105 - it stands for an address and opens nothing
    device_id: str = "dev_9f8e7d6c"
    country: str = "US"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCost:
    """What was measured."""

    entries: int
    bytes_an_entry: float
    look_us: float


def list_cost(entries: int) -> ListCost:
    """Fill the lists in memory, and look a payment up."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    snapshot = ListSnapshot()
    snapshot.apply(_standing(entries))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    began = perf_counter()
    for _ in range(LOOKS):
        snapshot.facts(Paying(), at=_AT)
    return ListCost(
        entries=len(snapshot),
        bytes_an_entry=(after - before) / entries,
        look_us=(perf_counter() - began) / LOOKS * 1_000_000,
    )


def _standing(entries: int) -> Iterator[Standing]:
    for number in range(entries):
        yield Standing(
            act="added",
            list=ListName.BLOCK,
            kind=ListKind.CARD,
            value=f"crd_{number:026}",
            expires_at=_AT + timedelta(seconds=number),
        )
