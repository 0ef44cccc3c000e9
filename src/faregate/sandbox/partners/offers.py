"""What the partners offer: the same for the same question, and priced again from an offer's id alone."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

OFFER_LIFE_S: Final = 1_800
CURRENCY: Final = "USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOffer:
    """Something that is offered. What a cancellation costs once it is confirmed: a tenth."""

    id: str
    title: str
    origin: str
    price_minor: int
    is_holdable: bool

    @property
    def penalty_minor(self) -> int:
        """What a cancellation after confirmation costs."""
        return self.price_minor // 10


def offers_for(
    partner: str, *, origin: str, destination: str, on: str, until: str, instant_only: bool = False
) -> list[SandboxOffer]:
    """Return what a partner offers: three to five offers, of which the third can only be booked at once."""
    question = f"{partner}|{origin}|{destination}|{on}|{until}"
    drawn = blake2b(question.encode(), digest_size=8).digest()
    made = []
    for n in range(3 + drawn[0] % 3):
        price = 8_000 + 100 * (drawn[n + 1] * (n + 1))
        how = "i" if instant_only or n == 2 else "h"
        made.append(read_offer(f"{n}~{origin or '-'}~{destination}~{on}~{until or '-'}~{price}~{how}"))
    return [offer for offer in made if offer is not None]


def read_offer(offer_id: str) -> SandboxOffer | None:
    """Return the offer of an id, None for one that was never made."""
    parts = offer_id.split("~")
    if len(parts) != 7 or not parts[5].isdecimal() or parts[6] not in ("h", "i"):
        return None
    n, origin, destination, on, _, price, how = parts
    return SandboxOffer(
        id=offer_id,
        title=f"{origin} to {destination}, {on}, no. {n}"
        if origin != "-"
        else f"{destination}, {on}, no. {n}",
        origin=origin,
        price_minor=int(price),
        is_holdable=how == "h",
    )
