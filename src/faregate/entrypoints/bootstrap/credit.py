"""The credit context as others ask it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

from faregate.credit.api import AuditApi, CreditApi
from faregate.credit.handlers.submit import SubmitPolicy, Submitter
from faregate.credit.store.audit.anchors import ANCHOR_FILE
from faregate.entrypoints.bootstrap.site import Site, identity_vault, tools
from faregate.infra.clock import SystemClock
from faregate.infra.coalescer import Coalescer
from faregate.rules.api import Rulesets


async def credit_api(stack: AsyncExitStack, site: Site) -> CreditApi:
    """Open the credit context."""
    settings = site.settings
    database, vault = await site.database(stack, "credit"), identity_vault(settings)
    policy = SubmitPolicy(
        deadline=timedelta(seconds=settings.application_deadline_s),
        duplicate_window=timedelta(days=settings.duplicate_window_days),
    )
    submissions = Coalescer(write=Submitter(database=database, tools=tools(), vault=vault, policy=policy))
    stack.push_async_callback(submissions.close)
    return CreditApi(
        database=database,
        submissions=submissions,
        snapshots=await site.snapshots(stack),
        vault=vault,
        rulesets=Rulesets(),
        audit=AuditApi(database=database, clock=SystemClock(), anchor_file=settings.home / ANCHOR_FILE),
    )
