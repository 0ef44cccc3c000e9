"""The routes of operators for allow and block lists, and of whoever brings labels."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.fraud.contracts.lists import ListName
from faregate.fraud.domain.listed import ListValueInvalid
from faregate.fraud.handlers.desks import FraudDesks
from faregate.fraud.handlers.labels import LabelContradicts, LabelsInvalid
from faregate.fraud.handlers.lists import ListEntriesInvalid, ListEntryNotFound, ListsFull
from faregate.fraud.routes import rule_forms as forms
from faregate.infra.database import Connection
from faregate.infra.http.acts import REPLAYED, ActEdge, to_json
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import ValidationFailed, validate
from faregate.infra.http.gate import Gate
from faregate.infra.http.openapi import Answer, operation, query_parameters
from faregate.infra.http.routing import make_router
from faregate.kernel.clock import Clock
from faregate.kernel.errors import NotFoundError

READ_SCOPE, WRITE_SCOPE = "fraud:read", "fraud:manage"
_LISTS = "/api/fraud/lists"
_LABELS = "/api/fraud/labels"


class ListUnknown(NotFoundError):
    """There is no list of this name: there are allow and block."""


_CARD = {"kind": "card", "value": "crd_01J3R2J7F1TQ0K6W6N8A4X9V7R"}
_SHOW = operation(
    summary="What stands on the allow and block lists",
    parameters=query_parameters(forms.ListsQuery),
    answers={200: Answer(description="One page", model=forms.FraudListAnswer)},
    problems=[ValidationFailed],
    scope=READ_SCOPE,
    limited=True,
)
_HISTORY = operation(
    summary="What was done to the lists, by whom and why, the newest first",
    parameters=query_parameters(forms.ListHistoryQuery),
    answers={200: Answer(description="One page", model=forms.ListHistoryAnswer)},
    problems=[ValidationFailed],
    scope=READ_SCOPE,
    limited=True,
)
_ADD = operation(
    summary="Put cards, members, merchants, addresses, devices or countries on a list",
    body=forms.AddForm,
    examples={
        "a stolen card": {
            "entries": [{**_CARD, "expires_at": "2026-12-26T00:00:00Z"}],
            "reason": "reported stolen, ticket 4711",
        }
    },
    answers={200: Answer(description="They stand there", model=forms.ListAddedAnswer, headers=REPLAYED)},
    problems=[ListUnknown, ListValueInvalid, ListEntriesInvalid, ListsFull],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_REMOVE = operation(
    summary="Take entries off a list: all of them, or none",
    body=forms.RemoveForm,
    examples={"a mistake": {"entries": [_CARD], "reason": "the wrong card"}},
    answers={200: Answer(description="They are gone", model=forms.ListRemovedAnswer, headers=REPLAYED)},
    problems=[ListUnknown, ListValueInvalid, ListEntriesInvalid, ListEntryNotFound],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_BRING = operation(
    summary="Bring what is known of payments: whether they were frauds, who says so, since when",
    body=forms.LabelsForm,
    examples={
        "a chargeback": {
            "labels": [
                {
                    "payment_id": "pay_01J3R2J7F1TQ0K6W6N8A4X9V7R",
                    "is_fraud": True,
                    "source": "chargeback",
                    "known_at": "2026-11-26T12:00:00Z",
                }
            ]
        }
    },
    answers={200: Answer(description="Taken in", model=forms.LabelsTakenAnswer, headers=REPLAYED)},
    problems=[LabelsInvalid, LabelContradicts],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_LABELS_OF = operation(
    summary="What is known of a payment, the newest first",
    answers={200: Answer(description="All labels", model=forms.LabelsOfPaymentAnswer)},
    scope=READ_SCOPE,
    limited=True,
)


def list_routes(*, desks: FraudDesks, authenticator: Authenticator, gate: Gate, clock: Clock) -> APIRouter:
    """Return the routes for lists and labels."""
    router = make_router(tags=["fraud"])
    edge = _Edge(desks, authenticator, gate, clock)
    router.get(_LISTS, **_SHOW)(edge.show)
    router.get(_LISTS + "/history", **_HISTORY)(edge.history)
    router.post(_LISTS + "/{list_name}/entries", **_ADD)(edge.add)
    router.post(_LISTS + "/{list_name}/removals", **_REMOVE)(edge.remove)
    router.post(_LABELS, **_BRING)(edge.bring)
    router.get(_LABELS + "/{payment_id}", **_LABELS_OF)(edge.labels_of)
    return router


class _Edge(ActEdge):
    """The endpoints."""

    def __init__(self, desks: FraudDesks, authenticator: Authenticator, gate: Gate, clock: Clock) -> None:
        super().__init__(
            database=desks.database,
            authenticator=authenticator,
            gate=gate,
            clock=clock,
            read_scope=READ_SCOPE,
            write_scope=WRITE_SCOPE,
        )
        self._desks = desks

    async def show(self, request: Request) -> Response:
        await self.reader(request)
        query = validate(forms.ListsQuery, dict(request.query_params))
        async with self.database.connection() as conn:
            found = await self._desks.lists.entries(
                conn,
                name=query.list,
                kind=query.kind,
                value=query.value,
                after=query.place,
                limit=query.limit,
            )
        return to_json(forms.FraudListAnswer.of(found, limit=query.limit))

    async def history(self, request: Request) -> Response:
        await self.reader(request)
        query = validate(forms.ListHistoryQuery, dict(request.query_params))
        async with self.database.connection() as conn:
            found = await self._desks.lists.history(
                conn,
                name=query.list,
                kind=query.kind,
                value=query.value,
                before=query.before,
                limit=query.limit,
            )
        return to_json(forms.ListHistoryAnswer.of(found, limit=query.limit))

    async def add(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.AddForm, by: str) -> BaseModel:
            entries = [entry.entry() for entry in form.entries]
            added = await self._desks.lists.add(
                conn, _list_name(request), entries, actor=by, reason=form.reason
            )
            return forms.ListAddedAnswer(
                entries=[forms.ListEntryAnswer.model_validate(entry) for entry in added]
            )

        return await self.once(request, forms.AddForm, work)

    async def remove(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.RemoveForm, by: str) -> BaseModel:
            listed = form.listed()
            await self._desks.lists.remove(conn, _list_name(request), listed, actor=by, reason=form.reason)
            return forms.ListRemovedAnswer(removed=len(listed))

        return await self.once(request, forms.RemoveForm, work)

    async def bring(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.LabelsForm, by: str) -> BaseModel:
            taken = await self._desks.labels.bring(conn, [label.label() for label in form.labels], actor=by)
            return forms.LabelsTakenAnswer(new=taken.new, known=taken.known)

        return await self.once(request, forms.LabelsForm, work)

    async def labels_of(self, request: Request) -> Response:
        await self.reader(request)
        async with self.database.connection() as conn:
            found = await self._desks.labels.of_payment(conn, str(request.path_params["payment_id"]))
        return to_json(
            forms.LabelsOfPaymentAnswer(labels=[forms.LabelAnswer.model_validate(label) for label in found])
        )


def _list_name(request: Request) -> ListName:
    """Return the list that the path names. Raises ListUnknown."""
    try:
        return ListName(request.path_params["list_name"])
    except ValueError as error:
        raise ListUnknown("there are the lists allow and block") from error
