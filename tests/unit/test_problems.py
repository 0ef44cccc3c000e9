"""Problems as a table: which error becomes which status, and that each type has a page."""

from __future__ import annotations

import pytest
from starlette.types import Scope

from faregate.infra.http import problems as module
from faregate.infra.http.authentication import ScopeMissing, Unauthenticated
from faregate.infra.http.body import BodyTooLarge, BrokenJson, UnsupportedMediaType, ValidationFailed
from faregate.infra.http.idempotency import (
    IdempotencyKeyMalformed,
    IdempotencyKeyMissing,
    IdempotencyKeyRepeated,
    IdempotencyKeyReused,
    RequestInFlight,
)
from faregate.infra.http.problems import known_problems, problem_of, problem_response, status_of
from faregate.infra.security.signatures import SignatureMissing, SignatureRejected
from faregate.kernel.errors import (
    ConflictError,
    FaregateError,
    ForbiddenError,
    InvalidError,
    LimitedError,
    NotFoundError,
    UnavailableError,
)

SCOPE: Scope = {"path": "/api/credit-applications", module.REQUEST_ID: "req_1"}


class CardLost(ConflictError):
    """The card was reported lost.

    Order another one.
    """


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidError, 400),
        (ForbiddenError, 403),
        (NotFoundError, 404),
        (ConflictError, 409),
        (LimitedError, 429),
        (UnavailableError, 503),
        (CardLost, 409),
        (Unauthenticated, 401),
        (ScopeMissing, 403),
        (SignatureMissing, 401),
        (SignatureRejected, 401),
        (module.RouteNotFound, 404),
        (module.MethodNotAllowed, 405),
        (module.RequestTimedOut, 503),
        (module.InternalError, 500),
        (BrokenJson, 400),
        (BodyTooLarge, 413),
        (UnsupportedMediaType, 415),
        (ValidationFailed, 422),
        (IdempotencyKeyMissing, 400),
        (IdempotencyKeyMalformed, 400),
        (IdempotencyKeyRepeated, 400),
        (RequestInFlight, 409),
        (IdempotencyKeyReused, 422),
    ],
)
def test_every_error_has_the_status_of_its_row_or_of_its_kind(
    error: type[FaregateError], status: int
) -> None:
    assert status_of(error) == status


def test_a_problem_has_the_standard_members_and_the_facts_of_its_error() -> None:
    problem = problem_of(CardLost("card 7 is lost", card=7), instance="/cards/7", request_id="req_1")
    assert problem == {
        "type": "/problems/card-lost",
        "title": "Card lost",
        "status": 409,
        "detail": "card 7 is lost",
        "instance": "/cards/7",
        "request_id": "req_1",
        "card": 7,
    }


def test_a_fact_cannot_take_the_place_of_a_standard_member() -> None:
    problem = problem_of(CardLost("lost", status=200, type="x"), instance="/")
    assert (problem["status"], problem["type"]) == (409, "/problems/card-lost")


def test_retry_after_is_whole_seconds_and_never_too_early() -> None:
    response = problem_response(LimitedError("slow down", retry_after_s=1.2), SCOPE)
    assert response.headers["retry-after"] == "2"
    assert response.headers["content-type"] == "application/problem+json"


def test_401_names_the_way_to_authenticate() -> None:
    response = problem_response(Unauthenticated("no key"), SCOPE)
    assert response.headers["www-authenticate"] == 'Bearer realm="faregate"'


def test_two_situations_never_share_a_problem_type() -> None:
    slugs = [error.slug() for error in module._subclasses(FaregateError)]
    assert sorted(slugs) == sorted(known_problems())


def test_a_page_says_what_the_problem_means_and_what_to_do() -> None:
    assert module.describe(CardLost) == ("The card was reported lost.", "Order another one.")


def test_a_problem_without_advice_takes_that_of_its_kind() -> None:
    assert module.describe(module.RouteNotFound)[1].startswith("Check the id")
