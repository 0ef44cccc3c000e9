"""Every booking that a partner really made: durable before it is answered. This is what a test asks for the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any, Final

from faregate.sandbox.journal import Journal

HELD, CONFIRMED, CANCELLED, EXPIRED = "held", "confirmed", "cancelled", "expired"
LIVE: Final = frozenset({HELD, CONFIRMED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """One booking. `reference` is the caller's own; `hold_until` in Unix seconds, until when a tentative one lasts."""

    partner: str
    reference: str
    booking_id: str
    offer_id: str
    state: str
    price_minor: int
    currency: str
    penalty_minor: int
    hold_until: float | None = None
    paid_minor: int = 0

    @property
    def redemption(self) -> str:
        """The part of the reference before the first dot."""
        return self.reference.partition(".")[0]

    @property
    def leg(self) -> str:
        """The redemption and the leg: that of which only one booking may stand."""
        return ".".join(self.reference.split(".")[:2])

    def as_of(self, now: float) -> Booking:
        """Return it as it stands at an instant: a tentative one whose time is over has lapsed."""
        is_over = self.state == HELD and self.hold_until is not None and now >= self.hold_until
        return replace(self, state=EXPIRED) if is_over else self


class Bookings:
    """The bookings of all partners, in memory for reading and in the journal for ever."""

    def __init__(self, journal: Journal, records: Iterable[Mapping[str, Any]]) -> None:
        self._journal = journal
        self._by_id: dict[str, Booking] = {}
        self._by_reference: dict[tuple[str, str], list[str]] = {}
        for record in records:
            if record["type"] == "booked":
                self._remember(Booking(**record["booking"]))
        self._numbers = count(len(self._by_id) + 1)

    def new_id(self, partner: str) -> str:
        """Return the id of the next booking of a partner."""
        return f"{partner}-{next(self._numbers):06d}"

    async def put(self, booking: Booking) -> Booking:
        """Remember a booking as it stands now; nobody sees it before it is on the disk."""
        await self._journal.append({"type": "booked", "booking": asdict(booking)})
        self._remember(booking)
        return booking

    def get(self, booking_id: str, *, now: float) -> Booking | None:
        """Return a booking as it stands."""
        found = self._by_id.get(booking_id)
        return found and found.as_of(now)

    def of_reference(self, partner: str, reference: str, *, now: float) -> list[Booking]:
        """Return the bookings under a reference, oldest first."""
        return [
            self._by_id[booking_id].as_of(now)
            for booking_id in self._by_reference.get((partner, reference), ())
        ]

    def of_redemption(self, redemption: str | None, *, now: float) -> list[Booking]:
        """Return the bookings of a redemption, or all of them."""
        return [
            booking.as_of(now) for booking in self._by_id.values() if redemption in (None, booking.redemption)
        ]

    def live_duplicates(self, *, now: float) -> int:
        """Return how many bookings stand beyond the first of their leg."""
        legs = [booking.leg for booking in self.of_redemption(None, now=now) if booking.state in LIVE]
        return len(legs) - len(set(legs))

    def _remember(self, booking: Booking) -> None:
        if booking.booking_id not in self._by_id:
            self._by_reference.setdefault((booking.partner, booking.reference), []).append(booking.booking_id)
        self._by_id[booking.booking_id] = booking
