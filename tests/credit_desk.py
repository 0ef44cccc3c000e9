"""The decision service on a database where nothing works by itself; applications come in over real HTTP.

    from tests.credit_desk import desk_of_module, servers_of_module  # noqa: F401

One desk serves a module (`pytestmark = pytest.mark.asyncio(loop_scope="module")`); each test takes people of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from faregate.credit.api import CreditApi
from faregate.credit.contracts import Reevaluated, Reevaluation
from faregate.credit.domain.facts import Source, facts_of_row
from faregate.credit.handlers.checks import GatewayHooks, process_signals
from faregate.credit.handlers.decide import RULESET_NAME, DecisionService, publish_first_ruleset
from faregate.credit.handlers.reevaluate import reevaluate
from faregate.credit.handlers.repull import decide_repulled
from faregate.credit.store.artefacts import load_check_plans, load_scorecard
from faregate.entrypoints.bootstrap.credit import credit_api
from faregate.entrypoints.bootstrap.site import identity_vault, tools
from faregate.events.credit import ExternalCompleted
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.settings import Settings
from faregate.rules.api import Rulesets
from faregate.sandbox.people import rows
from tests.credit_worker import new_person, servers_of_module  # noqa: F401
from tests.credit_world import CreditWorld, open_credit_world

GOOD_ROW, BAD_ROW = rows()[803], rows()[832]
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "bureau": {},
    "kyc": {"identity_verified": True, "watchlist_match": False},
    "fraud": {"fraud_level": "low", "fraud_score": 0.05},
    "income": {"annual_income_verified": 1_000_000},
}


@dataclass(kw_only=True)
class Desk:
    """The decision service on a database where nothing works by itself; `world` submits over HTTP."""

    world: CreditWorld
    database: Database
    credit: CreditApi
    service: DecisionService

    async def application(self, form: Mapping[str, Any] | None = None) -> str:
        reply = await self.world.submit(form or new_person())
        return str(reply.json["application_id"])

    async def checked(
        self,
        row: Mapping[str, str] = GOOD_ROW,
        *,
        form: Mapping[str, Any] | None = None,
        **answers: Mapping[str, Any] | str,
    ) -> str:
        """Submit and settle each check: facts of a row of the sample and what is given; text is another status."""
        application = await self.application(form)
        events = [completed(application, check, row, answers.get(check, {})) for check in ANSWERS]
        await self.settle(*events)
        return application

    async def settle(self, *events: ExternalCompleted) -> None:
        """Process what became of calls, as the consumer of these events does."""
        async with self.database.transaction() as conn:
            late = await process_signals(
                conn, events, tools=tools(), traceparents={}, take_snapshots=lambda _: asyncio.sleep(0)
            )
            await decide_repulled(conn, late, service=self.service)

    async def reevaluate(self, application: str, *, version: int) -> Reevaluated:
        """Let the first ruleset decide again on what is stored, as somebody who knows this version."""
        request = Reevaluation(
            application_id=application,
            expected_version=version,
            request_key=f"again-{version}",
            actor="ada",
            reason="the rules may see it otherwise",
        )
        async with self.database.transaction() as conn:
            rules = await self.service.rulesets.version(conn, name=RULESET_NAME, version=1)
            scorecard = self.service.scorecard
            return await reevaluate(conn, request, tools=tools(), scorecard=scorecard, ruleset=rules)

    async def decide(self, application: str, *, then: Callable[[], object] = lambda: None) -> str:
        """Do the deciding step; `then` comes before its commit."""
        async with self.database.transaction() as conn:
            decided = await self.service.decide(conn, application)
            then()
        return decided["status"]

    async def decided(self, row: Mapping[str, str] = GOOD_ROW) -> str:
        """Return an application that has been decided."""
        application = await self.checked(row)
        await self.decide(application)
        return application

    async def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        return await self.world.sql(query, **values)

    async def decision(self, application: str) -> dict[str, Any]:
        [row] = await self.sql("select * from credit.decision where application_id = %(id)s", id=application)
        return row

    async def announced(self, application: str) -> list[dict[str, Any]]:
        """Return the events about the decision that wait for the log, oldest first."""
        return await self.sql(
            "select type, payload from eventlog.outbox where aggregateid = %(id)s and type like '%%decision%%'"
            " order by ord",
            id=application,
        )


def completed(
    application: str, check: str, row: Mapping[str, str], answer: Mapping[str, Any] | str
) -> ExternalCompleted:
    known = {} if check == "fraud" else facts_of_row(row, source=Source(check))
    status = answer if isinstance(answer, str) else "done"
    facts = {} if isinstance(answer, str) else {**known, **ANSWERS[check], **answer}
    return ExternalCompleted(
        application_id=application,
        provider=check,
        provider_request_id=f"{application}:{check}:1",
        status=status,  # type: ignore[arg-type]
        signal_payload=facts,
        received_at=SystemClock().now(),
    )


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator[Desk]:
    """Open the API and the decision service on the servers that the settings name."""
    assert settings.valkey_url is not None
    async with AsyncExitStack() as stack:
        cache = await Cache.open(settings.valkey_url.get_secret_value())
        stack.push_async_callback(cache.close)
        world = await stack.enter_async_context(open_credit_world(settings, cache=cache))
        database = await world.site.database(stack, "credit", connections_max=12)
        await publish_first_ruleset(database, now=SystemClock().now())
        yield Desk(
            world=world,
            database=database,
            credit=await credit_api(stack, world.site),
            service=service(world.settings),
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="desk")
async def desk_of_module(servers_of_module: Settings) -> AsyncIterator[Desk]:  # noqa: F811
    async with open_desk(servers_of_module) as opened:
        yield opened


def service(settings: Settings) -> DecisionService:
    hooks = GatewayHooks(
        tools=tools(), vault=identity_vault(settings), callback_url_of=str, timeout_s_of=lambda _: 1.0
    )
    return DecisionService(
        tools=tools(),
        hooks=hooks,
        rulesets=Rulesets(),
        scorecard=load_scorecard(settings.scorecard),
        plans=load_check_plans(settings.check_plans),
    )
