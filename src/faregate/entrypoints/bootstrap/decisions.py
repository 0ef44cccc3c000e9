"""The decision service as a worker has it, and the policies that its runs tell providers' time-outs by."""

from __future__ import annotations

from collections.abc import Mapping

from faregate.credit.domain.checks import CHECK_OF_PROVIDER
from faregate.credit.handlers.decide import DecisionService, publish_first_ruleset
from faregate.credit.store.artefacts import load_check_plans, load_scorecard
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.providers import (
    adapters,
    declarations,
    gateway_hooks,
    policies,
    provider_session,
)
from faregate.entrypoints.bootstrap.site import tools
from faregate.gateway.book import PolicyBook
from faregate.gateway.contracts import Adapter
from faregate.infra.clock import SystemClock
from faregate.rules.api import Rulesets


async def known_adapters(process: Process) -> Mapping[str, Adapter]:
    """Return the adapter of each provider."""
    return adapters(process.site.settings, await provider_session(process.stack))


async def policy_book(process: Process) -> PolicyBook:
    """Return what is declared of the providers; whoever dispatches checks follows what operators change."""
    return PolicyBook(declarations(process.site.settings), providers=sorted(CHECK_OF_PROVIDER))


async def decision_service(process: Process) -> DecisionService:
    """Open the single writer of decisions, with a ruleset to decide by."""
    settings = process.site.settings
    rules = policies(await process.once(known_adapters), await process.once(policy_book))
    await publish_first_ruleset(await process.database("credit"), now=SystemClock().now())
    return DecisionService(
        tools=tools(),
        hooks=gateway_hooks(settings, rules),
        rulesets=Rulesets(),
        scorecard=load_scorecard(settings.scorecard),
        plans=load_check_plans(settings.check_plans),
    )
