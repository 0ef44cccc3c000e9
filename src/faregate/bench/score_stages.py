"""Where the time of one payment goes: each stage of scoring alone, one payment after the other, in one process.

The sum is less than what the process uses for a payment: HTTP, authentication, logs and metrics come on top.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final

import orjson

from faregate.bench.payment_load import payment
from faregate.fraud.api import FraudApi
from faregate.fraud.domain.scoring import facts_of
from faregate.fraud.handlers.score import digest_of, stored
from faregate.fraud.routes.forms import ScoreForm
from faregate.fraud.routes.scoring import payment_of
from faregate.infra.http.body import parse_json, validate

PAYMENTS: Final = 500
STAGES: Final = (
    "read the request",
    "features, one round trip",
    "rules",
    "model",
    "reasons of the model",
    "write the record",
    "commit",
)


async def measure_stages(fraud: FraudApi, *, run: str) -> Mapping[str, float]:
    """Return the median microseconds of each stage."""
    draw = random.Random(run)  # noqa: S311 - a load, not a secret
    taken: dict[str, list[float]] = {name: [] for name in STAGES}
    for number in range(PAYMENTS):
        body = orjson.dumps(payment(number, run=run, draw=draw, at=datetime.now(UTC)))
        for name, seconds in (await _staged(fraud, body, number)).items():
            taken[name].append(seconds)
    return {name: round(median(times) * 1e6, 1) for name, times in taken.items() if times}


async def _staged(fraud: FraudApi, body: bytes, number: int) -> Mapping[str, float]:
    """Return the seconds of each stage for one payment. What only few payments need is done for all."""
    scorer, watch = fraud.scorer, _Watch()
    now = datetime.now(UTC)
    asked = payment_of(validate(ScoreForm, parse_json(body)), fraud, now=now)
    digest = digest_of(asked)
    watch.lap("read the request")
    features, _ = await scorer.reader.read(asked, now=now)
    watch.lap("features, one round trip")
    values = features.values
    lists = scorer.rules.memberships(asked, at=now)
    if (ruleset := scorer.rules.active(asked)) is not None:
        ruleset.evaluate(facts_of(asked, features=values, lists=lists))
        watch.lap("rules")
    if (model := scorer.models.active) is not None and values is not None:
        watch.begin()
        model.score(values)
        watch.lap("model")
        model.reasons(values)
        watch.lap("reasons of the model")
    outcome = scorer.decide(asked, features, explain=False, at=now)
    watch.begin()
    decision = stored(
        outcome, decision_id=f"dec_bench{number:021d}", decided_at=now, digest=digest, client_id="bench"
    )
    watch.lap("write the record")
    await scorer.log.keep(decision)
    watch.lap("commit")
    return watch.laps


class _Watch:
    """Times one stage after the other."""

    def __init__(self) -> None:
        self.laps: dict[str, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Begin a stage anew."""
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a stage, and begin the next."""
        now = time.perf_counter()
        self.laps[name] = now - self._since
        self._since = now
