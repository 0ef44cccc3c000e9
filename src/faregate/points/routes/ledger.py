"""The routes of the ledger: operations, one or many, and what stands in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.admission import Work
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Authenticator, Caller
from faregate.infra.http.body import ValidationFailed, read_json, validate
from faregate.infra.http.client_limits import READ, SUBMIT
from faregate.infra.http.gate import Gate
from faregate.infra.http.idempotency import IdempotencyKeyReused, read_key
from faregate.infra.http.openapi import Answer, operation, query_parameters
from faregate.infra.http.routing import make_router
from faregate.kernel.errors import ConflictError
from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Answer as LedgerAnswer
from faregate.points.contracts.ledger import KeyReused, Operation, RequestInvalid
from faregate.points.contracts.ledger import Request as LedgerRequest
from faregate.points.contracts.reading import AccountNotFound, OperationNotFound, PageUnknown, PeriodEmpty
from faregate.points.domain.conversion import LessThanOneBlock, NothingArrives, PartnerUnknown
from faregate.points.domain.refusals import SENTENCES
from faregate.points.handlers.approval import NothingToApprove, SamePersonApproves
from faregate.points.handlers.writer import LedgerBusy
from faregate.points.routes.forms import (
    MEMBER_ID,
    NUMBER_MAX,
    AccountAnswer,
    AnyOperationForm,
    BalanceAnswer,
    BalanceAtAnswer,
    BalanceQuery,
    BatchAnswer,
    BatchForm,
    BatchItemForm,
    BatchResultAnswer,
    ConvertForm,
    CorrectionForm,
    LedgerOperationAnswer,
    LedgerOperationsAnswer,
    OperationForm,
    OperationsQuery,
    StatementAnswer,
    StatementQuery,
    TransferForm,
)
from faregate.points.routes.statement_files import FILES, MEDIA_TYPES

READ_SCOPE, WRITE_SCOPE, ADJUST_SCOPE, APPROVE_SCOPE = (
    "points:read",
    "points:write",
    "points:adjust",
    "points:approve",
)
_OPERATIONS = "/api/points/operations"
_CORRECTIONS = "/api/points/corrections"
_OPERATION = _OPERATIONS + "/{number}"
_ACCOUNT = "/api/points/accounts/{member_id}"
_REPLAYED = {"Idempotent-Replayed": "`true` for a repeated request"}


class OperationRefused(ConflictError):
    """The ledger refused the operation; `refusal` says why, and the refusal stands under the key for ever.

    Change what it needs, and ask again under another key.
    """


_HOLD_EXAMPLE = {"kind": "hold", "member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R", "amount": 2500}
_ADJUST_EXAMPLE = {
    "kind": "adjust",
    "member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R",
    "amount": -500,
    "reason": "entered_twice",
}
_BUSY = [LedgerBusy, DatabaseUnavailable]

_SUBMIT = operation(
    summary="Carry out an operation: earn, hold, post, void, burn, reverse, transfer, ...",
    body=AnyOperationForm,
    examples={"a hold": _HOLD_EXAMPLE, "post it": {"kind": "post", "subject": 4711}},
    answers={201: Answer(description="Done", model=LedgerOperationAnswer, headers=_REPLAYED)},
    problems=[OperationRefused, RequestInvalid, PartnerUnknown, LessThanOneBlock, NothingArrives, *_BUSY],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_CORRECT = operation(
    summary="Correct a balance, or freeze, open or close an account, or set its floor",
    body=CorrectionForm,
    examples={"a correction": _ADJUST_EXAMPLE},
    answers={201: Answer(description="Done", model=LedgerOperationAnswer, headers=_REPLAYED)},
    problems=[OperationRefused, RequestInvalid, *_BUSY],
    scope=ADJUST_SCOPE,
    idempotent=True,
    limited=True,
)
_BATCH = operation(
    summary="Carry out up to 500 operations in one transaction, each done or refused alone",
    body=BatchForm,
    examples={"one hold": {"operations": [{"key": "trip-1", "operation": _HOLD_EXAMPLE}]}},
    answers={200: Answer(description="What became of each", model=BatchAnswer)},
    problems=[RequestInvalid, PartnerUnknown, LessThanOneBlock, NothingArrives, *_BUSY],
    scope=WRITE_SCOPE,
    limited=True,
)
_APPROVE = operation(
    summary="Approve a correction that needs a second person, as that person",
    answers={201: Answer(description="Done", model=LedgerOperationAnswer)},
    problems=[OperationRefused, OperationNotFound, NothingToApprove, SamePersonApproves, *_BUSY],
    scope=APPROVE_SCOPE,
    limited=True,
)
_ONE = operation(
    summary="One operation, done or refused",
    answers={200: Answer(description="What the ledger remembers", model=LedgerOperationAnswer)},
    problems=[OperationNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_STATE = operation(
    summary="An account: balances, what expires when, open holds, at one instant",
    answers={200: Answer(description="As it stands", model=AccountAnswer)},
    problems=[AccountNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_BALANCE = operation(
    summary="The balances at an instant, with what was due by then as done",
    answers={200: Answer(description="As they were", model=BalanceAtAnswer)},
    problems=[AccountNotFound, ValidationFailed, DatabaseUnavailable],
    parameters=query_parameters(BalanceQuery),
    scope=READ_SCOPE,
    limited=True,
)
_LIST = operation(
    summary="The operations of a member, the newest first",
    answers={200: Answer(description="One page of them", model=LedgerOperationsAnswer)},
    problems=[AccountNotFound, PageUnknown, ValidationFailed, DatabaseUnavailable],
    parameters=query_parameters(OperationsQuery),
    scope=READ_SCOPE,
    limited=True,
)


@dataclass(frozen=True, kw_only=True)
class Door:
    """Who may come in, and how many at once."""

    authenticator: Authenticator
    gate: Gate

    def entrance(self, scope: str, work: Work) -> Callable[[Request], Awaitable[Caller]]:
        """Return what lets a request with this scope in, and raises what keeps it out."""
        may, policy = self.authenticator.require(scope), SUBMIT if work is Work.SUBMIT else READ

        async def enter(request: Request) -> Caller:
            caller = await may(request)
            await self.gate.enter(request, caller=caller, policy=policy, work=work)
            return caller

        return enter


_STATEMENT = operation(
    summary="What happened in a period; each spend with the earns that it came from",
    answers={
        200: Answer(
            description="JSON, CSV or PDF",
            model=StatementAnswer,
            other_media_types=[MEDIA_TYPES["csv"], MEDIA_TYPES["pdf"]],
        )
    },
    problems=[AccountNotFound, PeriodEmpty, ValidationFailed, DatabaseUnavailable],
    parameters=query_parameters(StatementQuery),
    scope=READ_SCOPE,
    limited=True,
)


def ledger_routes(*, points: PointsApi, authenticator: Authenticator, gate: Gate) -> APIRouter:
    """Return the routes of the ledger. A client's keys are its own."""
    router, door = make_router(tags=["points"]), Door(authenticator=authenticator, gate=gate)
    _add_operations(router, points, door)
    _add_reads(router, points, door)
    return router


def _add_operations(router: APIRouter, points: PointsApi, door: Door) -> None:
    scopes = (WRITE_SCOPE, ADJUST_SCOPE, APPROVE_SCOPE)
    may_write, may_adjust, may_approve = (door.entrance(scope, Work.SUBMIT) for scope in scopes)

    @router.post(_OPERATIONS, **_SUBMIT)
    async def submit(request: Request) -> Response:
        caller = await may_write(request)
        key = read_key(request)
        form = validate(AnyOperationForm, await read_json(request)).root
        return _answered(await points.submit(await _asked(points, form, key=key, caller=caller)))

    @router.post(_CORRECTIONS, **_CORRECT)
    async def correct(request: Request) -> Response:
        caller = await may_adjust(request)
        key = read_key(request)
        form = validate(CorrectionForm, await read_json(request)).root
        return _answered(await points.submit(await _asked(points, form, key=key, caller=caller)))

    @router.post(_OPERATIONS + "/batch", **_BATCH)
    async def submit_batch(request: Request) -> Response:
        caller = await may_write(request)
        items = validate(BatchForm, await read_json(request)).operations
        asked = [await _asked(points, item.operation.root, key=item.key, caller=caller) for item in items]
        answers = await points.submit_many(asked)
        return _json(BatchAnswer(results=[_result(*both) for both in zip(items, answers, strict=True)]))

    @router.post(_OPERATION + "/approval", **_APPROVE)
    async def approve(request: Request) -> Response:
        caller = await may_approve(request)
        return _done(await points.approve(_number(request), by=_name(caller)), status=201)


def _add_reads(router: APIRouter, points: PointsApi, door: Door) -> None:
    may_read, may_list = (door.entrance(READ_SCOPE, work) for work in (Work.READ, Work.LIST))

    @router.get(_OPERATION, **_ONE)
    async def one(request: Request) -> Response:
        await may_read(request)
        return _json(LedgerOperationAnswer.of(await points.operation(_number(request))))

    @router.get(_ACCOUNT, **_STATE)
    async def state(request: Request) -> Response:
        await may_read(request)
        return _json(AccountAnswer.of(await points.account(_member(request))))

    @router.get(_ACCOUNT + "/balance", **_BALANCE)
    async def balance(request: Request) -> Response:
        await may_read(request)
        wanted = validate(BalanceQuery, dict(request.query_params), strict=False)
        found = await points.balance_at(_member(request), at=wanted.at)
        balance = BalanceAnswer.of(found.balance)
        return _json(BalanceAtAnswer(member_id=found.member_id, at=found.at, balance=balance))

    @router.get(_ACCOUNT + "/operations", **_LIST)
    async def operations(request: Request) -> Response:
        await may_list(request)
        wanted = validate(OperationsQuery, dict(request.query_params), strict=False)
        page = await points.operations(_member(request), before=wanted.before, limit=wanted.limit)
        return _json(LedgerOperationsAnswer.of(page))

    @router.get(_ACCOUNT + "/statement", **_STATEMENT)
    async def statement(request: Request) -> Response:
        await may_list(request)
        wanted = validate(StatementQuery, dict(request.query_params), strict=False)
        found = await points.statement(_member(request), since=wanted.since, until=wanted.until)
        file = await asyncio.to_thread(FILES[wanted.format], found)
        return Response(file, media_type=MEDIA_TYPES[wanted.format])


def _result(item: BatchItemForm, answer: LedgerAnswer) -> BatchResultAnswer:
    if isinstance(answer, KeyReused):
        return BatchResultAnswer(key=item.key, operation=None, key_reused=answer.field)
    return BatchResultAnswer(key=item.key, operation=LedgerOperationAnswer.of(answer), key_reused=None)


def _member(request: Request) -> str:
    """Return the member of the path. Raises AccountNotFound for what can be no member's id."""
    member_id: str = request.path_params["member_id"]
    if not MEMBER_ID.fullmatch(member_id):
        raise AccountNotFound("there is no such account")
    return member_id


def _name(caller: Caller) -> str:
    return f"client:{caller.client_id}"


async def _asked(points: PointsApi, form: OperationForm, *, key: str, caller: Caller) -> LedgerRequest:
    own, by = f"{caller.client_id}:{key}", _name(caller)
    if isinstance(form, ConvertForm):
        return await points.conversion(
            key=own, by=by, member_id=form.member_id, amount=form.amount, partner=form.partner
        )
    if isinstance(form, TransferForm):
        return await points.transfer(
            key=own, by=by, member_id=form.member_id, to_member_id=form.to_member_id, amount=form.amount
        )
    return form.request(key=own, by=by)


def _number(request: Request) -> int:
    text = request.path_params["number"]
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:17]) <= NUMBER_MAX:
        raise OperationNotFound("there is no such operation")
    return int(text)


def _answered(answer: LedgerAnswer) -> Response:
    if isinstance(answer, KeyReused):
        raise IdempotencyKeyReused(f"the key was used with another {answer.field}", field=answer.field)
    return _done(answer, status=201)


def _done(done: Operation, *, status: int) -> Response:
    if done.refusal is not None:
        raise OperationRefused(SENTENCES[done.refusal], refusal=done.refusal.value, operation=done.no)
    headers = {"Idempotent-Replayed": "true"} if done.is_replay else {}
    return _json(LedgerOperationAnswer.of(done), status=status, headers=headers)


def _json(answer: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps(answer.model_dump(mode="json"))
    return Response(body, status_code=status, media_type="application/json", headers=headers)
