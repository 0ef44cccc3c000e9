"""A payment after its authorisation: captured once, wholly or in part, or reversed; refunded out of the capture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from faregate.kernel.errors import ConflictError, NotFoundError
from faregate.payments.contracts.payments import PaymentStatus


class PaymentNotFound(NotFoundError):
    """There is no payment of this id, or not for this client."""


class PaymentNotAuthorised(ConflictError):
    """Only what is authorised can be captured or reversed: it was declined, captured or reversed before."""


class AuthorisationExpired(ConflictError):
    """The authorisation's time is over. Authorise the payment anew."""


class CaptureTooLarge(ConflictError):
    """More was to be captured than is authorised."""


class PaymentNotCaptured(ConflictError):
    """Only what was captured can be given back."""


class RefundTooLarge(ConflictError):
    """More was to be given back than is left of what was captured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a payment stands: as much of it as decides what may be done."""

    status: PaymentStatus
    amount_minor: int
    captured_minor: int = 0
    refunded_minor: int = 0
    expires_at: datetime


def captured(standing: Standing, *, amount_minor: int | None, now: datetime) -> Standing:
    """Return the standing after a capture, of all if no amount is given; the rest is released.

    Raises PaymentNotAuthorised, AuthorisationExpired or CaptureTooLarge.
    """
    _check_authorised(standing)
    if now >= standing.expires_at:
        raise AuthorisationExpired("the authorisation's time is over", expired_at=standing.expires_at)
    amount = standing.amount_minor if amount_minor is None else amount_minor
    if amount > standing.amount_minor:
        raise CaptureTooLarge(
            f"{standing.amount_minor} is authorised", authorised_minor=standing.amount_minor
        )
    return replace(standing, status=PaymentStatus.CAPTURED, captured_minor=amount)


def reversed_(standing: Standing) -> Standing:
    """Return the standing after the authorisation was withdrawn. Raises PaymentNotAuthorised."""
    _check_authorised(standing)
    return replace(standing, status=PaymentStatus.REVERSED)


def refunded(standing: Standing, *, amount_minor: int) -> Standing:
    """Return the standing after an amount was given back. Raises PaymentNotCaptured or RefundTooLarge."""
    if standing.status is not PaymentStatus.CAPTURED:
        raise PaymentNotCaptured(f"the payment is {standing.status.value}")
    left = standing.captured_minor - standing.refunded_minor
    if amount_minor > left:
        raise RefundTooLarge(f"{left} is left of what was captured", left_minor=left)
    return replace(standing, refunded_minor=standing.refunded_minor + amount_minor)


def _check_authorised(standing: Standing) -> None:
    if standing.status is not PaymentStatus.AUTHORISED:
        raise PaymentNotAuthorised(
            f"the payment is {standing.status.value}", status_now=standing.status.value
        )
