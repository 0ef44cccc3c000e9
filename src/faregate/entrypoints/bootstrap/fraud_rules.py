"""The operators' side of fraud: lists, labels, and rules that are tried."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter

from faregate.entrypoints.bootstrap.site import Site
from faregate.fraud.handlers.desks import FraudDesks
from faregate.fraud.routes.lists import list_routes
from faregate.fraud.routes.rulesets import rule_routes
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.gate import Gate


async def fraud_desks(stack: AsyncExitStack, site: Site) -> FraudDesks:
    """Open the desks of operators."""
    return desks_on(await site.database(stack, "fraud"))


def desks_on(database: Database) -> FraudDesks:
    """Return the desks on a database."""
    return FraudDesks.on(database, clock=SystemClock())


def rule_routers(database: Database, *, authenticator: Authenticator, gate: Gate) -> list[APIRouter]:
    """Return the routes for lists, labels, and rules that are tried."""
    desks = desks_on(database)
    return [
        list_routes(desks=desks, authenticator=authenticator, gate=gate, clock=SystemClock()),
        rule_routes(desks=desks, authenticator=authenticator),
    ]
