"""What all adapters share: the acts of a saga, told apart, and what the end of an exchange says of the work.

An adapter says how its partner is asked and how its answers read. Everything that is neither certainly done nor
certainly not done is unknown, and looked up by our reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import aiohttp
from yarl import URL

from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import Answer, exchange, no_callback
from faregate.kernel.errors import FaregateError
from faregate.kernel.outcome import Done, NotDone, Outcome, Unknown
from faregate.travel.contracts.partners import (
    Act,
    Booking,
    BookingState,
    Offer,
    OfferGone,
    PartnerCapabilities,
    PartnerUnavailable,
    SearchQuery,
)
from faregate.travel.domain.references import read_request_id

RETRY_AFTER_S: Final = 30.0
LIVE: Final = frozenset({BookingState.HELD, BookingState.CONFIRMED})
PRICE_CHANGED: Final = "price_changed"

Sent = Answer | NotDone | Unknown
Read = TypeVar("Read")


class PartnerAdapter(ABC):
    """One partner. Acts go out by `submit`, once each; `look_up` finds by our reference what became of one.

    `do_not_resend` are the statuses that say nothing of the work; any other from 400 on is a refusal before it.
    """

    about: PartnerCapabilities
    do_not_resend: frozenset[int] = frozenset({202, 500, 502, 504})

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        base_url: str,
        timeout_s: float = 10.0,
        look_up_lag_s_max: float = 2.0,
    ) -> None:
        self.capabilities = Capabilities(
            provider=self.about.partner,
            asynchronous=False,
            deduplicates=self.about.deduplicates,
            look_up_lag_s_max=look_up_lag_s_max,
            timeout_s=max(timeout_s, self.about.timeout_floor_s),
            callback=False,
            polls=False,
        )
        self.base = URL(base_url)
        self._session = session

    # ── what an adapter says

    @abstractmethod
    def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove who we are, for the exact bytes that are sent."""

    @abstractmethod
    async def offers(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
        """Search. Raises ValueError for an answer that is not as documented."""

    @abstractmethod
    async def offer(self, offer_id: str, *, timeout_s: float) -> Offer:
        """Look at one offer. Raises ValueError likewise."""

    @abstractmethod
    async def act(self, act: Act, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Do one act about the booking of a reference."""

    @abstractmethod
    async def bookings(self, reference: str, *, timeout_s: float) -> Sequence[Booking] | Unknown:
        """Return the bookings under a reference."""

    @abstractmethod
    def refusal(self, body: bytes) -> tuple[str, int | None]:
        """Return the code of a refusal, and the price that it names. Raises ValueError for what is none."""

    # ── what travel asks

    async def search(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
        """Return what is offered. Raises PartnerUnavailable."""
        try:
            return await self.offers(query, timeout_s=timeout_s)
        except ValueError as error:
            raise self.unavailable() from error

    async def quote(self, offer_id: str, *, timeout_s: float) -> Offer:
        """Return an offer as it stands now. Raises OfferGone and PartnerUnavailable."""
        try:
            return await self.offer(offer_id, timeout_s=timeout_s)
        except ValueError as error:
            raise self.unavailable() from error

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        """Send an act, once."""
        asked = read_request_id(request.provider_request_id)
        return await self.act(asked.act, asked.booking, request.subject, timeout_s=timeout_s)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        """Find out by our reference what became of an act."""
        asked = read_request_id(provider_request_id)
        found = await self.bookings(asked.booking, timeout_s=timeout_s)
        return found if isinstance(found, Unknown) else judged(asked.act, found)

    def read_callback(self, body: Mapping[str, Any]) -> Callback:  # noqa: ARG002 - the protocol's method
        """Refuse: no partner calls back."""
        raise no_callback(self.about.partner)

    # ── what adapters use

    async def ask(self, method: str, path: str, *, timeout_s: float, body: bytes = b"", **query: str) -> Sent:
        """Send one request, once; `path` begins with a slash and may have a query of its own."""
        url = self.base.joinpath(*(part for part in path.partition("?")[0].split("/") if part), encoded=True)
        url = url.with_query(query or path.partition("?")[2] or None)
        return await exchange(
            self._session,
            method,
            url,
            timeout_s=timeout_s,
            headers=self.headers(method, url, body),
            body=body or None,
        )

    def read(self, sent: Sent, read: Callable[[bytes], Read]) -> Read:
        """Return what an answer to a question says. Raises PartnerUnavailable, OfferGone or ValueError."""
        if not isinstance(sent, Answer) or sent.status >= 500 or sent.status in (202, 401, 403, 429):
            raise self.unavailable()
        if sent.status >= 400:
            code, _ = self.refusal(sent.body)
            if code == "offer_gone":
                raise OfferGone(f"{self.about.title} does not offer this any more")
            raise self.unavailable()
        return read(sent.body)

    def acted(self, sent: Sent, read: Callable[[bytes], Booking]) -> Outcome:
        """Say what is known after an act."""
        if not isinstance(sent, Answer):
            return sent
        if sent.status in (200, 201):
            return _understood(sent.body, read)
        if sent.status == 429:
            return NotDone("rate_limited", retryable=True, retry_after_s=sent.retry_after_s)
        if sent.status == 503:
            return NotDone("unavailable", retryable=True, retry_after_s=sent.retry_after_s)
        if sent.status in self.do_not_resend or not 400 <= sent.status < 500:
            return Unknown(f"http_{sent.status}")
        try:
            code, price = self.refusal(sent.body)
        except ValueError:
            return Unknown("answer_not_understood")
        if code == PRICE_CHANGED and price is not None:
            return Done({"state": BookingState.PRICE_CHANGED.value, "price_minor": price})
        return NotDone(code)

    def found(self, sent: Sent, read: Callable[[bytes], Sequence[Booking]]) -> Sequence[Booking] | Unknown:
        """Return the bookings that an answer lists, Unknown when it lists none that could be read."""
        if isinstance(sent, NotDone | Unknown):
            return Unknown(sent.reason)
        if sent.status != 200:
            return Unknown(f"http_{sent.status}")
        try:
            return read(sent.body)
        except (ValueError, FaregateError):
            return Unknown("answer_not_understood")

    def unavailable(self) -> PartnerUnavailable:
        """Return the error that a member reads."""
        return PartnerUnavailable(
            f"{self.about.title} is currently unavailable, please try again later",
            retry_after_s=RETRY_AFTER_S,
            partner=self.about.partner,
        )


def judged(act: Act, found: Sequence[Booking]) -> Outcome:
    """Say what became of an act, given the bookings under its reference. Several are reported, never hidden."""
    if len(found) > 1:
        return Unknown("several_bookings")
    booking = found[0] if found else None
    if act in (Act.RELEASE, Act.CANCEL):
        if booking is None:
            return Done({"state": BookingState.CANCELLED.value, "penalty_minor": 0})
        if booking.state in LIVE:
            return NotDone("not_found", retryable=True)
        return Done({**booking.facts(), "state": BookingState.CANCELLED.value})
    if booking is None:
        return NotDone("hold_expired") if act is Act.CONFIRM else NotDone("not_found", retryable=True)
    if booking.state not in LIVE:
        return NotDone("hold_expired" if act is Act.CONFIRM else "expired")
    if act is Act.CONFIRM and booking.state is BookingState.HELD:
        return NotDone("not_found", retryable=True)
    return Done(booking.facts())


def not_begun(error: Sent | Unknown | FaregateError) -> Outcome:
    """Return that an act was not begun, because a question before it was not answered: it may be tried again."""
    match error:
        case NotDone():
            return error
        case Unknown(reason=reason):
            return NotDone(f"not_begun: {reason}", retryable=True)
        case Answer(status=status, retry_after_s=after):
            return NotDone(f"not_begun: http_{status}", retryable=True, retry_after_s=after)
        case _:
            return NotDone("not_begun", retryable=True)


def cancelled(booking: Booking) -> Booking:
    """Return a booking that is over, whatever its partner calls that."""
    if booking.state in LIVE:
        raise ValueError("it still stands")
    return Booking(
        state=BookingState.CANCELLED,
        booking_id=booking.booking_id,
        price_minor=booking.price_minor,
        currency=booking.currency,
        penalty_minor=booking.penalty_minor,
    )


def _understood(body: bytes, read: Callable[[bytes], Booking]) -> Outcome:
    try:
        facts = read(body).facts()
    except (ValueError, FaregateError):
        return Unknown("answer_not_understood")
    return Done(payload=facts, raw=body)
