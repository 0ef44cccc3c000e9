"""The routes of households. The path names the member who acts; a client acts for every member."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.database import Connection, DatabaseUnavailable
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.members.domain.household import (
    AlreadyInHousehold,
    HouseholdFull,
    HouseholdNotFound,
    NotHeadOfHousehold,
    NotInHousehold,
    NotInvited,
)
from faregate.members.domain.status import MemberClosed, MemberErased, MemberFrozen, MemberNotFound
from faregate.members.routes import forms
from faregate.members.routes.edge import READ_SCOPE, REPLAYED, WRITE_SCOPE, Edge, member_id_of, to_json
from faregate.members.routes.members import ONE

_HOUSEHOLD = ONE + "/household"
_NOT_ACTIVE = [MemberNotFound, MemberErased, MemberClosed, MemberFrozen]
_MEMBER = {"a member": {"member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"}}
_NOW = {200: Answer(description="As it is now", model=forms.HouseholdAnswer, headers=REPLAYED)}

_GET = operation(
    summary="The household that a member is in",
    answers={200: Answer(description="As it is now", model=forms.HouseholdAnswer)},
    problems=[MemberNotFound, HouseholdNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_CREATE = operation(
    summary="Make a household, with the member as its head",
    answers={201: Answer(description="Made", model=forms.HouseholdAnswer, headers=REPLAYED)},
    problems=[*_NOT_ACTIVE, AlreadyInHousehold, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_INVITE = operation(
    summary="Let the head invite a member for 14 days",
    body=forms.MemberIdForm,
    examples=_MEMBER,
    answers=_NOW,
    problems=[
        *_NOT_ACTIVE,
        HouseholdNotFound,
        NotHeadOfHousehold,
        AlreadyInHousehold,
        HouseholdFull,
        DatabaseUnavailable,
    ],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_JOIN = operation(
    summary="Join a household that invited the member",
    body=forms.HouseholdIdForm,
    examples={"a household": {"household_id": "hsh_01J3R2J7F1TQ0K6W6N8A4X9V7R"}},
    answers=_NOW,
    problems=[
        *_NOT_ACTIVE,
        HouseholdNotFound,
        NotInvited,
        AlreadyInHousehold,
        HouseholdFull,
        DatabaseUnavailable,
    ],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_LEAVE = operation(
    summary="Leave a household; the longest-standing member follows a head, the last one ends it",
    answers={200: Answer(description="What is left", model=forms.LeftAnswer, headers=REPLAYED)},
    problems=[MemberNotFound, HouseholdNotFound, NotInHousehold, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_HAND_OVER = operation(
    summary="Let the head make another member the head",
    body=forms.MemberIdForm,
    examples=_MEMBER,
    answers=_NOW,
    problems=[MemberNotFound, HouseholdNotFound, NotHeadOfHousehold, NotInHousehold, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)


def household_routes(*, edge: Edge) -> APIRouter:
    """Return the routes of households."""
    router = make_router(tags=["households"])
    endpoints = _Endpoints(edge)
    router.get(_HOUSEHOLD, **_GET)(endpoints.get)
    router.post(_HOUSEHOLD, **_CREATE)(endpoints.create)
    router.post(_HOUSEHOLD + "/invite", **_INVITE)(endpoints.invite)
    router.post(_HOUSEHOLD + "/join", **_JOIN)(endpoints.join)
    router.post(_HOUSEHOLD + "/leave", **_LEAVE)(endpoints.leave)
    router.post(_HOUSEHOLD + "/hand-over", **_HAND_OVER)(endpoints.hand_over)
    return router


class _Endpoints:
    """The endpoints of the routes."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def get(self, request: Request) -> Response:
        await self._edge.reader(request)
        found = await self._edge.members.household_of(member_id_of(request))
        return to_json(forms.HouseholdAnswer.of(found))

    async def create(self, request: Request) -> Response:
        async def work(conn: Connection, by: str) -> BaseModel:
            made = await self._edge.members.households.create(conn, member_id_of(request), by=by)
            return forms.HouseholdAnswer.of(made)

        return await self._edge.once_without_body(request, work, status=201)

    async def invite(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.MemberIdForm, by: str) -> BaseModel:
            changed = await self._edge.members.households.invite(
                conn, member_id_of(request), member_id=form.member_id, by=by
            )
            return forms.HouseholdAnswer.of(changed)

        return await self._edge.once(request, forms.MemberIdForm, work)

    async def join(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.HouseholdIdForm, by: str) -> BaseModel:
            changed = await self._edge.members.households.join(
                conn, member_id_of(request), household_id=form.household_id, by=by
            )
            return forms.HouseholdAnswer.of(changed)

        return await self._edge.once(request, forms.HouseholdIdForm, work)

    async def leave(self, request: Request) -> Response:
        async def work(conn: Connection, by: str) -> BaseModel:
            remaining = await self._edge.members.households.leave(conn, member_id_of(request), by=by)
            return forms.LeftAnswer.of(remaining)

        return await self._edge.once_without_body(request, work)

    async def hand_over(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.MemberIdForm, by: str) -> BaseModel:
            changed = await self._edge.members.households.hand_over(
                conn, member_id_of(request), to=form.member_id, by=by
            )
            return forms.HouseholdAnswer.of(changed)

        return await self._edge.once(request, forms.MemberIdForm, work)
