"""What operators see of decisions: how long the scorer was waited for, how its calls ended, which cells decided."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from faregate.infra.telemetry.metrics import Metrics
from faregate.payments.contracts.scoring import Asked, NoScore
from faregate.payments.domain.verdict import Verdict

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.078, 0.08, 0.082, 0.085, 0.09, 0.1, 0.25, 1.0)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """The metrics of decisions."""

    waited: Histogram
    decisions: Counter
    unanswered: Counter

    @classmethod
    def of(cls, metrics: Metrics) -> Watch:
        """Return the watch of a process."""
        return cls(
            waited=metrics.histogram(
                "faregate_payment_score_wait_seconds",
                "How long a decision waited for the scorer, whatever came of it",
                buckets=_BUCKETS_S,
            ),
            decisions=metrics.counter(
                "faregate_payment_decisions_total",
                "Decisions by what was done and by the cell of the policy, if one was asked",
                labels=("action", "cell"),
            ),
            unanswered=metrics.counter(
                "faregate_payment_unscored_total", "Calls of the scorer without an answer", labels=("why",)
            ),
        )

    def decided(self, verdict: Verdict, asked: Asked | None) -> None:
        """Count a decision."""
        self.decisions.labels(verdict.action.value, verdict.cell or "").inc()
        if asked is not None:
            self.waited.observe(asked.waited_us / 1e6)
            if isinstance(asked.came, NoScore):
                self.unanswered.labels(asked.came.why).inc()
