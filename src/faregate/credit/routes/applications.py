"""The routes of clients: submit an application, poll its status, read its decision, list one's own."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import SUBMIT_ROUTE, CreditApi
from faregate.credit.contracts import Identity, Submission
from faregate.credit.domain.application import (
    ApplicationExists,
    ApplicationNotFound,
    DecisionNotMade,
    KeyUsedElsewhere,
)
from faregate.credit.routes.forms import (
    FORM_EXAMPLE,
    RECEIPT_EXAMPLE,
    ApplicationForm,
    DecisionAnswer,
    ListAnswer,
    PageQuery,
    ReceiptAnswer,
    StatusAnswer,
    page_wanted,
)
from faregate.infra.admission import Overloaded, Work
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import ValidationFailed, check_media_type, parse_json, validate
from faregate.infra.http.client_limits import READ, SUBMIT, RateLimited
from faregate.infra.http.conditional import (
    CONDITION,
    NOT_MODIFIED,
    TAG_HEADERS,
    answer_unless_known,
    counted_tag,
    known_number,
)
from faregate.infra.http.gate import Gate
from faregate.infra.http.idempotency import fingerprint, read_key
from faregate.infra.http.idempotency_store import Attempt, Fresh, KeyScope, KeyState, StoredResponse
from faregate.infra.http.idempotent_route import response_of, to_http
from faregate.infra.http.openapi import Answer, link, operation, query_parameters
from faregate.infra.http.routing import make_router
from faregate.infra.telemetry.tracing import current_traceparent
from faregate.kernel.clock import Clock
from faregate.kernel.errors import FaregateError

_ONE = SUBMIT_ROUTE + "/{application_id}"
_SUBMIT = operation(
    summary="Submit an application; the answer waits for no provider",
    body=ApplicationForm,
    examples={"a cashback card": FORM_EXAMPLE},
    answers={
        202: Answer(
            description="Accepted; poll the status",
            model=ReceiptAnswer,
            example=asdict(RECEIPT_EXAMPLE),
            headers={
                "Location": "Where the status is",
                "Idempotent-Replayed": "`true` for a repeated request",
            },
            links={
                "status": link(_ONE, application_id="application_id"),
                "decision": link(_ONE + "/decision", application_id="application_id"),
            },
        )
    },
    problems=[ApplicationExists, KeyUsedElsewhere, DatabaseUnavailable],
    scope="credit:submit",
    idempotent=True,
    limited=True,
)
_LIST = operation(
    summary="The client's own applications, the newest first",
    answers={200: Answer(description="One page of them", model=ListAnswer)},
    problems=[ValidationFailed, DatabaseUnavailable],
    parameters=query_parameters(PageQuery),
    scope="credit:read",
    limited=True,
)
_STATUS = operation(
    summary="Where an application stands",
    answers={
        200: Answer(
            description="The present state",
            model=StatusAnswer,
            headers=TAG_HEADERS,
            links={"decision": link(_ONE + "/decision", application_id="application_id")},
        ),
        304: NOT_MODIFIED,
    },
    problems=[ApplicationNotFound, DatabaseUnavailable],
    parameters=[CONDITION],
    scope="credit:read",
    limited=True,
)
_DECISION = operation(
    summary="The newest decision on an application",
    answers={
        200: Answer(description="The decision with its reasons", model=DecisionAnswer, headers=TAG_HEADERS),
        304: NOT_MODIFIED,
    },
    problems=[ApplicationNotFound, DecisionNotMade, DatabaseUnavailable],
    parameters=[CONDITION],
    scope="credit:read",
    limited=True,
)


def application_routes(
    *, credit: CreditApi, authenticator: Authenticator, gate: Gate, clock: Clock
) -> APIRouter:
    """Return the routes of clients. Another client's application is not found.

    A submission passes in this order: caller, media type and JSON, form of the key, known key, limit and overload,
    form, creation. Whether a key is known is looked up when one of the later ones refuses, and by the writer else.
    """
    router = make_router(tags=["credit applications"])
    may_submit, may_read = authenticator.require("credit:submit"), authenticator.require("credit:read")

    @router.post(SUBMIT_ROUTE, **_SUBMIT)
    async def submit(request: Request) -> Response:
        caller = await may_submit(request)
        check_media_type(request)
        body = parse_json(await request.body())
        key = read_key(request)
        draft = _Draft(caller.client_id, key, fingerprint(method="POST", route=SUBMIT_ROUTE, body=body))
        try:
            await gate.enter(request, caller=caller, policy=SUBMIT, work=Work.SUBMIT)
            form = validate(ApplicationForm, body)
            form.refuse_future_birth(today=clock.now().date())
        except (RateLimited, Overloaded, ValidationFailed) as refusal:
            return await draft.answer_refused(credit, refusal)
        return _answer(await credit.submit(draft.submission(form)))

    @router.get(SUBMIT_ROUTE, **_LIST)
    async def list_own(request: Request) -> Response:
        caller = await may_read(request)
        await gate.enter(request, caller=caller, policy=READ, work=Work.LIST)
        page = await credit.list_applications(client_id=caller.client_id, wanted=page_wanted(request))
        return Response(orjson.dumps(ListAnswer.of(page)), media_type="application/json")

    async def status(request: Request) -> Response:
        caller = await may_read(request)
        await gate.enter(request, caller=caller, policy=READ, work=Work.READ)
        application_id = request.path_params["application_id"]
        view = await credit.status(
            application_id=application_id,
            client_id=caller.client_id,
            known_revision=known_number(request),
        )
        answer = StatusAnswer.of(view)
        return answer_unless_known(request, answer, tag=counted_tag(view.revision, answer))

    async def decision(request: Request) -> Response:
        caller = await may_read(request)
        await gate.enter(request, caller=caller, policy=READ, work=Work.READ)
        application_id = request.path_params["application_id"]
        view = await credit.decision(
            application_id=application_id,
            client_id=caller.client_id,
            known_version=known_number(request),
        )
        return answer_unless_known(request, DecisionAnswer.of(view), tag=str(view.version))

    for path, documented, endpoint in ((_ONE, _STATUS, status), (_ONE + "/decision", _DECISION, decision)):
        router.get(path, **documented)(endpoint)
        router.head(path, include_in_schema=False)(endpoint)  # the server leaves the body out
    return router


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is known of a submission before its form is."""

    client_id: str
    key: str
    fingerprint: bytes

    def submission(self, form: ApplicationForm) -> Submission:
        person = form.applicant
        return Submission(
            client_id=self.client_id,
            idempotency_key=self.key,
            fingerprint=self.fingerprint,
            identity=Identity(legal_name=person.legal_name, dob=person.dob, ssn_last4=person.ssn_last4),
            product_type=form.product_type,
            annual_income=person.annual_income,
            amount=form.amount,
            purpose=form.purpose.value if form.purpose else None,
            traceparent=current_traceparent(),
        )

    async def answer_refused(self, credit: CreditApi, refusal: FaregateError) -> Response:
        """A known key is answered even when its request is refused; a new one keeps nothing."""
        scope = KeyScope(self.client_id, "POST", SUBMIT_ROUTE, self.key)
        state = await credit.known_answer(Attempt(scope, self.fingerprint))
        if isinstance(state, Fresh):
            raise refusal
        return response_of(state)


def _answer(answer: StoredResponse | KeyState) -> Response:
    if isinstance(answer, Fresh):
        raise ValueError("a fresh attempt has an answer of its own")
    return to_http(answer) if isinstance(answer, StoredResponse) else response_of(answer)
