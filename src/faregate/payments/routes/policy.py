"""The routes of the payment policy: read, set, look back, go back, try."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.database import Connection, DatabaseUnavailable
from faregate.infra.http.acts import REPLAYED, to_json
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.payments.domain.policy import PaymentPolicyInvalid, PolicyVersionUnknown, read_policy
from faregate.payments.domain.verdict import verdict_in
from faregate.payments.routes import forms
from faregate.payments.routes.edge import POLICY_SCOPE, READ_SCOPE, PaymentsEdge

ALL = "/api/payments/policy"
HISTORY_MAX = 200
_SET = {
    200: Answer(description="Set: it counts from now on", model=forms.PaymentPolicyAnswer, headers=REPLAYED)
}

_GET = operation(
    summary="The payment policy that counts",
    answers={200: Answer(description="The newest version", model=forms.PaymentPolicyAnswer)},
    problems=[DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_HISTORY = operation(
    summary="Who set which version, when and why, the newest first",
    answers={200: Answer(description="The newest 200", model=forms.PaymentPolicyHistoryAnswer)},
    problems=[DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_PUT = operation(
    summary="Set the policy: it is checked, kept as a further version, and counts at once in every process",
    body=forms.PaymentPolicySetForm,
    answers=_SET,
    problems=[PaymentPolicyInvalid, DatabaseUnavailable],
    scope=POLICY_SCOPE,
    idempotent=True,
    limited=True,
)
_BACK = operation(
    summary="Let an earlier version count again, as a further one",
    body=forms.PaymentPolicyRollBackForm,
    examples={"to the first": {"version": 1, "reason": "the new bands declined too much"}},
    answers=_SET,
    problems=[PolicyVersionUnknown, DatabaseUnavailable],
    scope=POLICY_SCOPE,
    idempotent=True,
    limited=True,
)
_TRY = operation(
    summary="What would be done with a payment in a state of the scorer; nothing is",
    body=forms.PaymentPolicyTryForm,
    examples={
        "the scorer is gone": {
            "amount_minor": 5_000,
            "currency": "USD",
            "merchant_category": 5_812,
            "channel": "online",
            "state": "unavailable",
        }
    },
    answers={200: Answer(description="What would be done", model=forms.PaymentPolicyTryAnswer)},
    problems=[PaymentPolicyInvalid, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)


def policy_routes(*, edge: PaymentsEdge) -> APIRouter:
    """Return the routes of the policy."""
    router = make_router(tags=["payment policy"])
    desk = edge.payments.policy

    @router.get(ALL, **_GET)
    async def read(request: Request) -> Response:
        await edge.reader(request)
        return to_json(forms.PaymentPolicyAnswer.of(await desk.now()))

    @router.get(ALL + "/history", **_HISTORY)
    async def history(request: Request) -> Response:
        await edge.reader(request)
        versions = await desk.history(limit=HISTORY_MAX)
        return to_json(forms.PaymentPolicyHistoryAnswer.model_validate({"versions": versions}))

    @router.post(ALL, **_PUT)
    async def set_policy(request: Request) -> Response:
        async def work(
            conn: Connection, form: forms.PaymentPolicySetForm, by: str
        ) -> forms.PaymentPolicyAnswer:
            document = form.policy.model_dump(mode="json")
            return forms.PaymentPolicyAnswer.of(await desk.set(conn, document, by=by, reason=form.reason))

        return await edge.once(request, forms.PaymentPolicySetForm, work)

    @router.post(ALL + "/roll-back", **_BACK)
    async def roll_back(request: Request) -> Response:
        async def work(
            conn: Connection, form: forms.PaymentPolicyRollBackForm, by: str
        ) -> forms.PaymentPolicyAnswer:
            return forms.PaymentPolicyAnswer.of(
                await desk.roll_back(conn, form.version, by=by, reason=form.reason)
            )

        return await edge.once(request, forms.PaymentPolicyRollBackForm, work)

    @router.post(ALL + "/try", **_TRY)
    async def try_policy(request: Request) -> Response:
        await edge.reader(request)
        form = validate(forms.PaymentPolicyTryForm, await read_json(request))
        policy = (
            (await desk.now()).policy
            if form.policy is None
            else read_policy(form.policy.model_dump(mode="json"))
        )
        verdict = verdict_in(form.state, form.attempt(edge.clock.now()), policy, scored=form.scored)
        return to_json(forms.PaymentPolicyTryAnswer.of(verdict))

    return router
