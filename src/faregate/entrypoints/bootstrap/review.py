"""Manual review: the rules of the house from the settings, and the queue as metrics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from faregate.credit.api import ReviewApi
from faregate.credit.contracts import Priority
from faregate.credit.handlers.repull import RepullDesk
from faregate.credit.handlers.review import ReviewDesk, ReviewPolicy
from faregate.credit.store.artefacts import load_scorecard
from faregate.entrypoints.bootstrap.providers import declarations, gateway_hooks, policies
from faregate.entrypoints.bootstrap.site import Site, identity_vault, tools
from faregate.gateway.book import PolicyBook
from faregate.gateway.contracts import Adapter
from faregate.infra.database import Database
from faregate.infra.telemetry.metrics import Metrics
from faregate.rules.api import Rulesets


def review_api(database: Database, site: Site, known: Mapping[str, Adapter]) -> ReviewApi:
    """Open manual review on the credit context's database."""
    settings = site.settings
    policy = ReviewPolicy(
        lease=timedelta(minutes=settings.review_lease_minutes),
        claims_max=settings.review_claims_max,
        amount_max=settings.review_amount_max,
        amount_if_absent=settings.review_amount_if_absent,
        note_chars_min=settings.review_note_chars_min,
    )
    desk = ReviewDesk(
        tools=tools(),
        rulesets=Rulesets(),
        scorecard=load_scorecard(settings.scorecard),
        policy=policy,
    )
    book = PolicyBook(declarations(settings), providers=sorted(known))
    repulls = RepullDesk(
        tools=tools(),
        hooks=gateway_hooks(settings, policies(known, book)),
        deadline=timedelta(seconds=settings.application_deadline_s),
        note_chars_min=settings.review_note_chars_min,
    )
    return ReviewApi(database=database, desk=desk, repulls=repulls, vault=identity_vault(settings))


def count_reviews(metrics: Metrics, reviews: ReviewApi) -> None:
    """Show the queue in a process's metrics; every process shows the same."""
    waiting = metrics.gauge(
        "faregate_reviews_waiting", "Manual reviews that are not decided", labels=("priority",)
    )
    overdue = metrics.gauge(
        "faregate_reviews_overdue", "Those of them that have waited too long", labels=("priority",)
    )
    oldest = metrics.gauge(
        "faregate_reviews_oldest_seconds", "How long the oldest of them has waited", labels=("priority",)
    )

    async def probe() -> None:
        lines = {line.priority: line for line in await reviews.lines()}
        for priority in Priority:
            line = lines.get(priority)
            waiting.labels(priority).set(line.waiting if line else 0)
            overdue.labels(priority).set(line.overdue if line else 0)
            oldest.labels(priority).set(line.oldest_s if line else 0)

    metrics.add_probe(probe)
