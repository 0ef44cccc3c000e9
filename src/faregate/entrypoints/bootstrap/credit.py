"""The credit context as others ask it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from faregate.credit.api import AuditApi, CreditApi
from faregate.credit.contracts import Submission
from faregate.credit.handlers.notices import NoticeDesk
from faregate.credit.handlers.redecide import Redecider
from faregate.credit.handlers.rulesets import RulesetDesk
from faregate.credit.handlers.status import StatusReader
from faregate.credit.handlers.submit import Answer, SubmitPolicy, Submitter, known_answers
from faregate.credit.store.audit.chain import ANCHOR_FILE
from faregate.credit.store.issuer import ISSUER_FILE, load_issuer
from faregate.entrypoints.bootstrap.rulesets import TRIED_ELSEWHERE, checks_of_others
from faregate.entrypoints.bootstrap.site import Site, identity_vault, tools
from faregate.infra.admission import Admission, LoopLag, Signal, Work
from faregate.infra.clock import SystemClock
from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Database
from faregate.infra.http.idempotency_store import Attempt, KeyState
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from faregate.rules.api import Rulesets

SUBMISSIONS_EVERY_S = 0.005
"""Least time between two batches of submissions: their statements cost more than what is in them."""


async def credit_api(
    stack: AsyncExitStack,
    site: Site,
    *,
    database: Database | None = None,
    metrics: Metrics | None = None,
    lag: LoopLag | None = None,
) -> CreditApi:
    """Open the credit context. A process that serves many clients gives its metrics and measures its loop."""
    settings, metrics = site.settings, metrics or Metrics()
    database = database or await site.database(stack, "credit")
    reads = await site.reads(stack, primary=database, metrics=metrics)
    vault = identity_vault(settings)
    submitter = Submitter(database=database, tools=tools(), vault=vault, policy=_policy(settings))
    submissions: Coalescer[Submission, Answer] = Coalescer(write=submitter, every_s=SUBMISSIONS_EVERY_S)
    known_keys: Coalescer[Attempt, KeyState] = Coalescer(write=partial(known_answers, database))
    for coalescer in (submissions, known_keys):
        stack.push_async_callback(coalescer.close)
    admission = Admission(
        delay_s_max=settings.admission_delay_s_max,
        signals=_signals(lag or LoopLag(), database, submissions, known_keys),
        metrics=metrics,
    )
    rulesets = Rulesets()
    redecider = Redecider(tools=tools(), rulesets=rulesets, scorecard=settings.scorecard)
    return CreditApi(
        database=database,
        submissions=submissions,
        known_keys=known_keys,
        reads=reads,
        read_status=StatusReader(reads=reads, snapshots=await site.snapshots(stack), admission=admission),
        admission=admission,
        vault=vault,
        rulesets=rulesets,
        audit=AuditApi(database=database, clock=SystemClock(), anchor_file=settings.home / ANCHOR_FILE),
        notices=NoticeDesk(
            database=database,
            rulesets=rulesets,
            issuer=load_issuer(settings.issuer_file or settings.home / ISSUER_FILE),
            clock=SystemClock(),
        ),
        rules=RulesetDesk(
            tools=tools(),
            rulesets=rulesets,
            database=database,
            redecider=redecider,
            others=checks_of_others(settings),
            tried_elsewhere=TRIED_ELSEWHERE,
        ),
    )


def _policy(settings: Settings) -> SubmitPolicy:
    return SubmitPolicy(
        deadline=timedelta(seconds=settings.application_deadline_s),
        duplicate_window=timedelta(days=settings.duplicate_window_days),
    )


def _signals(
    lag: LoopLag,
    database: Database,
    submissions: Coalescer[Submission, Answer],
    known_keys: Coalescer[Attempt, KeyState],
) -> list[Signal]:
    """Return what delays which work."""
    return [
        Signal(name="event_loop", delay_s=lag.standing_s, works=tuple(Work)),
        Signal(name="submissions", delay_s=submissions.delay_s, works=(Work.LIST, Work.SUBMIT)),
        Signal(name="known_keys", delay_s=known_keys.delay_s, works=(Work.KEY_LOOK_UP,)),
        Signal(name="database", delay_s=database.waited_s, works=(Work.LIST, Work.DATABASE_READ)),
    ]
