# mypy: allow-untyped-decorators
"""The credit flow as a Temporal user would write it: one workflow an application, five activities.

Four activities ask a provider through the same adapters that faregate uses, the fifth decides with the
same rules and scorecard. A provider that answers later signals the workflow through the callback
receiver. What faregate does beyond that (journal, encryption, events, audit) is left out, which favours
the peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from faregate.credit.domain.decision import ApplicationFacts, CheckSignal, DecisionInputs, decide
from faregate.credit.providers import BureauAdapter, FraudAdapter, IncomeAdapter, KycAdapter
from faregate.credit.store.artefacts import load_ruleset_document, load_scorecard
from faregate.gateway.contracts import Adapter, ProviderRequest
from faregate.infra.clock import SystemClock
from faregate.infra.settings import Settings
from faregate.kernel.outcome import Accepted, Done, Outcome
from faregate.rules.ruleset import canonical, compile_ruleset

TASK_QUEUE = "credit"
CHECKS = ("bureau", "kyc", "fraud", "income")
CALLBACK_DEADLINE = timedelta(seconds=60)
ACTIVITY_DEADLINE = timedelta(seconds=30)
PROVIDER_TIMEOUT_S = 10.0

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """Where the four providers are and how we prove who we are. `url` is the sandbox's; names follow."""

    url: str
    bureau_api_key: str
    kyc_api_key: str
    fraud_hmac_secret: str
    income_client_id: str
    income_client_secret: str

    @classmethod
    def of(cls, settings: Settings, *, sandbox_url: str) -> Providers:
        """Return the sandbox's providers, with the credentials of the settings."""
        return cls(
            url=sandbox_url,
            bureau_api_key=settings.bureau_api_key.get_secret_value(),
            kyc_api_key=settings.kyc_api_key.get_secret_value(),
            fraud_hmac_secret=settings.fraud_hmac_secret.get_secret_value(),
            income_client_id=settings.income_client_id,
            income_client_secret=settings.income_client_secret.get_secret_value(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """What to decide with, by version."""

    scorecard: str
    ruleset: str


@workflow.defn
class CreditApplication:
    """Asks all providers at once, waits for those that answer later, decides once."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    @workflow.run
    async def run(self, subject: dict[str, Any]) -> str:
        """Return the outcome: approved, denied or manual_review."""
        answers = await asyncio.gather(*(self._check(name, subject) for name in CHECKS))
        signals = dict(zip(CHECKS, answers, strict=True))
        return str(await _activity("decide", [subject, signals]))

    @workflow.signal
    def answered(self, check: str, answer: Answer) -> None:
        """A provider's callback has come in."""
        self._answers.setdefault(check, answer)

    async def _check(self, name: str, subject: dict[str, Any]) -> Answer:
        answer: Answer = await _activity(f"ask_{name}", [subject, workflow.info().workflow_id])
        if answer["status"] != "accepted":
            return answer
        try:
            await workflow.wait_condition(lambda: name in self._answers, timeout=CALLBACK_DEADLINE)
        except TimeoutError:
            return {"status": "unknown", "facts": {}}
        return self._answers[name]


async def _activity(name: str, arguments: list[Any]) -> Any:
    return await workflow.execute_activity(
        name,
        args=arguments,
        start_to_close_timeout=ACTIVITY_DEADLINE,
        retry_policy=RetryPolicy(maximum_attempts=3),
    )


class Activities:
    """The five activities, with what they need."""

    def __init__(self, *, adapters: Mapping[str, Adapter], callback_url: str, artefacts: Artefacts) -> None:
        self._adapters = adapters
        self._callback_url = callback_url
        self._scorecard = load_scorecard(artefacts.scorecard)
        self._ruleset = compile_ruleset(canonical(load_ruleset_document(artefacts.ruleset)))

    @activity.defn
    async def ask_bureau(self, subject: dict[str, Any], application_id: str) -> Answer:
        """Pull a credit report."""
        return await self._ask("bureau", subject, application_id)

    @activity.defn
    async def ask_kyc(self, subject: dict[str, Any], application_id: str) -> Answer:
        """Ask for a verification of the identity; it is called back."""
        return await self._ask("kyc", subject, application_id)

    @activity.defn
    async def ask_fraud(self, subject: dict[str, Any], application_id: str) -> Answer:
        """Screen for fraud."""
        return await self._ask("fraud", subject, application_id)

    @activity.defn
    async def ask_income(self, subject: dict[str, Any], application_id: str) -> Answer:
        """Ask for a verification of the income; it is called back."""
        return await self._ask("income", subject, application_id)

    @activity.defn
    async def decide(self, subject: dict[str, Any], signals: dict[str, Answer]) -> str:
        """Decide with the rules and the scorecard."""
        inputs = DecisionInputs(
            application=ApplicationFacts(
                product_type="cashback_card",
                amount=subject["amount"],
                purpose=subject["purpose"],
                annual_income=subject["annual_income"],
                age_years=SystemClock().now().year - int(subject["dob"][:4]),
            ),
            signals={name: CheckSignal(status=a["status"], facts=a["facts"]) for name, a in signals.items()},
            required_checks=CHECKS,
        )
        return decide(inputs, scorecard=self._scorecard, ruleset=self._ruleset).outcome.value

    async def _ask(self, check: str, subject: dict[str, Any], application_id: str) -> Answer:
        request = ProviderRequest(
            provider_request_id=f"{application_id}:{check}:1",
            subject=subject,
            callback_url=f"{self._callback_url}/{check}",
        )
        return answer_of(await self._adapters[check].submit(request, timeout_s=PROVIDER_TIMEOUT_S))


def answer_of(outcome: Outcome) -> Answer:
    """Return an outcome as it travels through Temporal."""
    match outcome:
        case Done(payload=facts):
            return {"status": "done", "facts": dict(facts)}
        case Accepted():
            return {"status": "accepted", "facts": {}}
        case _:
            return {"status": "unknown", "facts": {}}


def adapters_of(providers: Providers, *, session: aiohttp.ClientSession) -> dict[str, Adapter]:
    """Return the four adapters that this flow asks."""

    def base_url(name: str) -> str:
        return f"{providers.url}/{name}"

    clock = SystemClock()
    return {
        "bureau": BureauAdapter(
            session=session, base_url=base_url("bureau"), api_key=providers.bureau_api_key
        ),
        "kyc": KycAdapter(session=session, base_url=base_url("kyc"), api_key=providers.kyc_api_key),
        "fraud": FraudAdapter(
            session=session,
            base_url=base_url("fraud"),
            hmac_secret=providers.fraud_hmac_secret,
            clock=clock,
        ),
        "income": IncomeAdapter(
            session=session,
            base_url=base_url("income"),
            client_id=providers.income_client_id,
            client_secret=providers.income_client_secret,
            clock=clock,
        ),
    }
