"""Fraud: what decides payments, with its features, rules, models and record."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack

from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.site import Site, key_rings
from faregate.features.keeping import GROUP, live_features
from faregate.features.payments import PAYMENTS
from faregate.fraud.api import (
    AuditOptions,
    DecisionLog,
    DecisionReader,
    FeatureReader,
    FraudApi,
    Freshness,
    ModelBook,
    ModelRegistry,
    Replayer,
    Scorer,
)
from faregate.fraud.contracts.scoring import Ruleset
from faregate.fraud.handlers.rulesets import RulesInForce, publish_first_rules
from faregate.fraud.store.artefacts import load_reasons
from faregate.infra.admission import LoopLag
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection
from faregate.infra.eventlog.admin import lag
from faregate.infra.security.pseudonym import Pseudonyms
from faregate.infra.settings import Settings
from faregate.infra.spool import Spool
from faregate.rules.api import content_of
from faregate.rules.compiled import compile_hot

CONNECTIONS_MAX = 6
SPOOL_FOLDER = "fraud-spool"


async def fraud_api(process: Process, *, loop_lag: LoopLag) -> FraudApi:
    """Open what decides payments."""
    site, stack = process.site, process.stack
    settings = site.settings
    database = await process.database("fraud", connections_max=CONNECTIONS_MAX)
    cache = await Cache.open(site.valkey_url)
    stack.push_async_callback(cache.close)
    features, reasons = live_features(cache), load_reasons()

    async def look() -> Freshness:
        async with database.connection() as conn:
            found = await lag(conn, groups=[GROUP])
        return Freshness(await features.is_warm(), found[0].seconds if found else None)

    reader = FeatureReader(features=features, look=look, wait_s=settings.fraud_features_ms_max / 1_000)
    models = ModelBook(database=database, declared=PAYMENTS, reasons=reasons)
    log = DecisionLog(
        database=database,
        spool=spool_of(settings),
        clock=SystemClock(),
        metrics=process.metrics,
        options=audit_options(settings),
    )
    process.further_checks["fraud.model"] = models.check
    await publish_first_rules(database, now=SystemClock().now())
    rules = RulesInForce(database=database, clock=SystemClock())
    for running in (reader.watched(), models.followed(), rules.watched(), log.running()):
        await stack.enter_async_context(running)
    return FraudApi(
        database=database,
        reader=DecisionReader(database=database, reasons=reasons),
        registry=ModelRegistry(database=database, declared=PAYMENTS, reasons=reasons),
        pseudonyms=Pseudonyms(ring=key_rings(settings)["blind_index"]),
        scorer=Scorer(
            reader=reader,
            rules=rules,
            models=models,
            log=log,
            clock=SystemClock(),
            random=os.urandom,
            loop_lag_s=loop_lag.standing_s,
        ),
    )


async def fraud_registry(stack: AsyncExitStack, site: Site) -> ModelRegistry:
    """Open the registry of models."""
    return ModelRegistry(
        database=await site.database(stack, "fraud", connections_max=2),
        declared=PAYMENTS,
        reasons=load_reasons(),
    )


async def fraud_reader(stack: AsyncExitStack, site: Site) -> DecisionReader:
    """Open the decisions for reading."""
    database = await site.database(stack, "fraud", connections_max=2)
    return DecisionReader(database=database, reasons=load_reasons())


async def fraud_replayer(stack: AsyncExitStack, site: Site) -> Replayer:
    """Open what computes decisions again."""
    database = await site.database(stack, "fraud", connections_max=2)
    reader = DecisionReader(database=database, reasons=load_reasons())
    return Replayer(database=database, reader=reader, ruleset_of=published_ruleset)


async def published_ruleset(conn: Connection, name: str, version: int) -> Ruleset:
    """Return a published version, ready to be evaluated. Raises RulesetVersionNotFound."""
    return compile_hot(await content_of(conn, name=name, version=version))


def audit_options(settings: Settings) -> AuditOptions:
    """Return how decisions are kept."""
    return AuditOptions(wait_s=settings.fraud_audit_ms_max / 1_000)


def spool_of(settings: Settings) -> Spool:
    """Return the local spool of decisions."""
    return Spool(settings.home / SPOOL_FOLDER, bytes_max=settings.fraud_spool_bytes_max)
