"""Our references: what a booking is called at a partner, and what each request about it is called in the journal.

A request's id says which booking it is about and what was asked, so that whoever finds only the id can look it up:

    rdm_x.1.place.1:airline_a:2     leg 1, first try of ours, second attempt of the gateway: books rdm_x.1.1.2
    rdm_x.1.confirm.1.1.2:airline_a:1        asks to confirm rdm_x.1.1.2
"""

from __future__ import annotations

from dataclasses import dataclass

from faregate.kernel.errors import InvalidError
from faregate.travel.contracts.partners import Act

MAKES_A_BOOKING = frozenset({Act.PLACE, Act.BOOK})


class NotOurReference(InvalidError):
    """An id that was not made here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request is about: the act, and the reference under which the partner knows the booking."""

    act: Act
    booking: str


def subject_of(*, redemption: str, leg: int, act: Act, number: int, booking: str = "") -> str:
    """Return what the journal knows a step by. `booking` is the reference of the booking that it is about."""
    about = "." + ".".join(booking.split(".")[-2:]) if booking else ""
    return f"{redemption}.{leg}.{act.value}.{number}{about}"


def read_request_id(provider_request_id: str) -> Asked:
    """Return what a request is about. Raises NotOurReference."""
    subject, _, attempt = provider_request_id.rpartition(":")
    try:
        redemption, leg, name, number, *about = subject.partition(":")[0].split(".")
        act = Act(name)
        made, made_by = (number, attempt) if act in MAKES_A_BOOKING else about
        return Asked(act=act, booking=f"{redemption}.{int(leg)}.{int(made)}.{int(made_by)}")
    except ValueError as error:
        raise NotOurReference(f"{provider_request_id!r} is no request of ours") from error


def step_of(subject: str) -> tuple[int, Act, int]:
    """Return the leg, the act and the number of the step that the journal knows as a subject."""
    _, leg, act, number, *_ = subject.split(".")
    return int(leg), Act(act), int(number)


def redemption_of(subject: str) -> str:
    """Return the redemption that a step belongs to."""
    return subject.partition(".")[0]
