"""The routes of members: register, find, read, change what a version says, freeze, close, erase."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.database import Connection, DatabaseUnavailable
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.conditional import CONDITION, NOT_MODIFIED, TAG_HEADERS, answer_unless_known
from faregate.infra.http.openapi import Answer, link, operation
from faregate.infra.http.preconditions import IF_MATCH, PreconditionFailed, PreconditionMissing
from faregate.infra.http.routing import make_router
from faregate.members.contracts import Member
from faregate.members.domain.profile import (
    EmailTaken,
    HomeAirportsInvalid,
    PreferencesInvalid,
    ProfileInvalid,
)
from faregate.members.domain.status import (
    MemberClosed,
    MemberErased,
    MemberNotFound,
    StatusActRefused,
)
from faregate.members.routes import forms
from faregate.members.routes.edge import READ_SCOPE, REPLAYED, WRITE_SCOPE, Edge, member_id_of, to_json

ALL = "/api/members"
ONE = ALL + "/{member_id}"
_CHANGED = {200: Answer(description="As it is now", model=forms.MemberAnswer, headers=TAG_HEADERS)}
_REFUSED = [
    MemberNotFound,
    MemberErased,
    MemberClosed,
    PreconditionMissing,
    PreconditionFailed,
    DatabaseUnavailable,
]

_REGISTER = operation(
    summary="Register a member; nothing personal is in the answer",
    body=forms.ProfileForm,
    examples={"Ada": forms.PROFILE_EXAMPLE},
    answers={
        201: Answer(
            description="Registered",
            model=forms.MemberReceiptAnswer,
            headers=REPLAYED,
            links={
                "member": link(ONE, member_id="member_id"),
                "consent": link(ONE + "/consents", method="post", member_id="member_id"),
                "consents": link(ONE + "/consents", member_id="member_id"),
                "household": link(ONE + "/household", method="post", member_id="member_id"),
                "status": link(ONE + "/status", method="post", member_id="member_id"),
                "erase": link(ONE + "/erase", method="post", member_id="member_id"),
                "record": link(ONE + "/record", member_id="member_id"),
            },
        )
    },
    problems=[ProfileInvalid, EmailTaken, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_FIND = operation(
    summary="Who has an e-mail address",
    body=forms.EmailForm,
    examples={"Ada": {"email": "ada@example.com"}},
    answers={200: Answer(description="The member, or null", model=forms.FoundAnswer)},
    problems=[DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_GET = operation(
    summary="A member",
    answers={
        200: Answer(description="As it is now", model=forms.MemberAnswer, headers=TAG_HEADERS),
        304: NOT_MODIFIED,
    },
    problems=[MemberNotFound, DatabaseUnavailable],
    parameters=[CONDITION],
    scope=READ_SCOPE,
    limited=True,
)
_PROFILE = operation(
    summary="Change personal data of the version that you read",
    body=forms.ProfileChangesForm,
    examples={"a new address": {"email": "ada@example.org"}, "no telephone": {"phone": None}},
    answers=_CHANGED,
    problems=[*_REFUSED, ProfileInvalid, EmailTaken],
    parameters=[IF_MATCH],
    scope=WRITE_SCOPE,
    limited=True,
)
_PREFERENCES = operation(
    summary="Replace the preferences of the version that you read",
    body=forms.PreferencesForm,
    examples={"a vegetarian": forms.PREFERENCES_EXAMPLE},
    answers=_CHANGED,
    problems=[*_REFUSED, PreferencesInvalid],
    parameters=[IF_MATCH],
    scope=WRITE_SCOPE,
    limited=True,
)
_AIRPORTS = operation(
    summary="Replace the home airports of the version that you read",
    body=forms.HomeAirportsForm,
    examples={"Zurich, then Basel": {"airports": ["ZRH", "BSL"]}},
    answers=_CHANGED,
    problems=[*_REFUSED, HomeAirportsInvalid],
    parameters=[IF_MATCH],
    scope=WRITE_SCOPE,
    limited=True,
)
_CONSENT = operation(
    summary="Give or withdraw a consent",
    body=forms.ConsentForm,
    examples={"yes": {"purpose": "marketing", "given": True, "text_version": "2026-10"}},
    answers={200: Answer(description="Noted", model=forms.MemberReceiptAnswer, headers=REPLAYED)},
    problems=[MemberNotFound, MemberErased, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_CONSENTS = operation(
    summary="Everything that a member ever gave and withdrew, oldest first",
    answers={200: Answer(description="The whole history", model=forms.ConsentsAnswer)},
    problems=[MemberNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_STATUS = operation(
    summary="Freeze, unfreeze or close a member",
    body=forms.StatusForm,
    examples={"stolen phone": {"act": "freeze", "reason": "account_taken_over"}},
    answers={200: Answer(description="As it stands now", model=forms.MemberReceiptAnswer, headers=REPLAYED)},
    problems=[MemberNotFound, MemberErased, StatusActRefused, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_ERASE = operation(
    summary="Destroy what identifies a member; the id stays valid, for the ledger",
    body=forms.ErasureForm,
    examples={"asked for": {"reason": "member_request"}},
    answers={200: Answer(description="Erased", model=forms.MemberReceiptAnswer, headers=REPLAYED)},
    problems=[MemberNotFound, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_RECORD = operation(
    summary="What was done to a member, by whom, oldest first",
    answers={200: Answer(description="Nothing personal is in it", model=forms.RecordAnswer)},
    problems=[MemberNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)


def member_routes(*, edge: Edge) -> APIRouter:
    """Return the routes of members. One with the scope sees every member of the programme."""
    router = make_router(tags=["members"])
    reads, acts = _Reads(edge), _Acts(edge)
    router.post(ALL, **_REGISTER)(acts.register)
    router.post(ALL + "/find", **_FIND)(reads.find)
    router.get(ONE, **_GET)(reads.get)
    router.head(ONE, include_in_schema=False)(reads.get)  # the server leaves the body out
    router.patch(ONE + "/profile", **_PROFILE)(acts.profile)
    router.put(ONE + "/preferences", **_PREFERENCES)(acts.preferences)
    router.put(ONE + "/home-airports", **_AIRPORTS)(acts.home_airports)
    router.post(ONE + "/consents", **_CONSENT)(acts.consent)
    router.get(ONE + "/consents", **_CONSENTS)(reads.consents)
    router.post(ONE + "/status", **_STATUS)(acts.status)
    router.post(ONE + "/erase", **_ERASE)(acts.erase)
    router.get(ONE + "/record", **_RECORD)(reads.record)
    return router


class _Reads:
    """The endpoints that change nothing."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def find(self, request: Request) -> Response:
        await self._edge.reader(request)
        form = validate(forms.EmailForm, await read_json(request))
        return to_json(forms.FoundAnswer(member_id=await self._edge.members.find_by_email(form.email)))

    async def get(self, request: Request) -> Response:
        await self._edge.reader(request)
        member = await self._edge.members.get(member_id_of(request))
        answer = forms.MemberAnswer.of(member).model_dump(mode="json")
        return answer_unless_known(request, answer, tag=str(member.version))

    async def consents(self, request: Request) -> Response:
        await self._edge.reader(request)
        found = await self._edge.members.consents(await self._known(request))
        return to_json(forms.ConsentsAnswer(consents=[forms.ConsentAnswer.of(said) for said in found]))

    async def record(self, request: Request) -> Response:
        await self._edge.reader(request)
        found = await self._edge.members.record(await self._known(request))
        return to_json(forms.RecordAnswer(entries=[forms.RecordEntryAnswer.of(entry) for entry in found]))

    async def _known(self, request: Request) -> str:
        """Return the member that the path names, if there is one. Raises MemberNotFound."""
        member_id = member_id_of(request)
        await self._edge.members.tier_of(member_id)
        return member_id


class _Acts:
    """The endpoints that change something. Those without a version answer each key once."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._members = edge.members

    async def register(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.ProfileForm, by: str) -> BaseModel:
            return forms.MemberReceiptAnswer.of(await self._members.register(conn, form.profile(), by=by))

        return await self._edge.once(request, forms.ProfileForm, work, status=201)

    async def profile(self, request: Request) -> Response:
        async def work(
            conn: Connection, member_id: str, form: forms.ProfileChangesForm, version: int, by: str
        ) -> Member:
            return await self._members.update_profile(conn, member_id, form.changes(), version=version, by=by)

        return await self._edge.change(request, forms.ProfileChangesForm, work)

    async def preferences(self, request: Request) -> Response:
        async def work(
            conn: Connection, member_id: str, form: forms.PreferencesForm, version: int, by: str
        ) -> Member:
            return await self._members.set_preferences(
                conn, member_id, form.preferences(), version=version, by=by
            )

        return await self._edge.change(request, forms.PreferencesForm, work)

    async def home_airports(self, request: Request) -> Response:
        async def work(
            conn: Connection, member_id: str, form: forms.HomeAirportsForm, version: int, by: str
        ) -> Member:
            return await self._members.set_home_airports(
                conn, member_id, form.airports, version=version, by=by
            )

        return await self._edge.change(request, forms.HomeAirportsForm, work)

    async def consent(self, request: Request) -> Response:
        member_id = member_id_of(request)

        async def work(conn: Connection, form: forms.ConsentForm, by: str) -> BaseModel:
            done = await self._members.set_consent(conn, member_id, form.change(), by=by)
            return forms.MemberReceiptAnswer.of(done)

        return await self._edge.once(request, forms.ConsentForm, work)

    async def status(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.StatusForm, by: str) -> BaseModel:
            member_id = member_id_of(request)
            done = await self._members.set_status(conn, member_id, form.act, reason=form.reason, by=by)
            return forms.MemberReceiptAnswer.of(done)

        return await self._edge.once(request, forms.StatusForm, work)

    async def erase(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.ErasureForm, by: str) -> BaseModel:
            member_id = member_id_of(request)
            return forms.MemberReceiptAnswer.of(
                await self._members.erase(conn, member_id, reason=form.reason, by=by)
            )

        return await self._edge.once(request, forms.ErasureForm, work)
