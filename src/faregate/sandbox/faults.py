"""What goes wrong, when, and how often: rates, scripts and latencies for each provider, from one seed.

A draw depends only on the seed, the provider, our reference and how often it was drawn for that reference, so
a run meets the same faults in whatever order its calls arrive. What a fault does to an answer does not belong
here: `routes` and `callbacks` carry it out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from statistics import NormalDist
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Stage(StrEnum):
    """Where a fault can strike. Each call meets at most one fault a stage."""

    SUBMIT = "submit"
    LOOK_UP = "look_up"
    CALLBACK = "callback"
    PARTNER = "partner"


class Fault(StrEnum):
    """Everything that can go wrong. The comments say whether the work is done."""

    UNAUTHORISED = "unauthorised"  # 401, not done
    LIMITED = "limited"  # 429 with Retry-After, not done
    UNAVAILABLE = "unavailable"  # 503, documented to have no side effect, not done
    ERROR_BEFORE = "error_before"  # 500, not done, but the caller cannot know
    HANG_BEFORE = "hang_before"  # no answer for `hold_s`, not done
    DROP_BEFORE = "drop_before"  # connection dropped, not done
    LATE_WORK = "late_work"  # the work begins only after `late_work_s`; done
    ERROR_AFTER = "error_after"  # 500, done
    HANG_AFTER = "hang_after"  # no answer for `hold_s`, done
    DROP_AFTER = "drop_after"  # connection dropped, done
    MALFORMED = "malformed"  # 200 with half a body, done
    WRONG_SCHEMA = "wrong_schema"  # 200 with a body of another shape, done
    REFUSED = "refused"  # done, and the result is a final refusal

    LOOK_UP_ERROR = "look_up_error"
    LOOK_UP_HANG = "look_up_hang"
    LOOK_UP_DROP = "look_up_drop"
    LOOK_UP_MALFORMED = "look_up_malformed"

    CALLBACK_LOST = "callback_lost"
    CALLBACK_EARLY = "callback_early"  # before the 202 has been sent
    CALLBACK_LATE = "callback_late"  # `callback_late_s` after the result is ready
    CALLBACK_OVERTAKEN = "callback_overtaken"  # held back until a later one of this provider has passed
    CALLBACK_DUPLICATE = "callback_duplicate"
    CALLBACK_SKEWED = "callback_skewed"  # signed by a clock that is off by up to `callback_skew_s`
    CALLBACK_STALE = "callback_stale"  # signed by a clock that is off by `callback_stale_s`; sent once
    CALLBACK_WRONG_SIGNATURE = "callback_wrong_signature"  # a forged one comes before the real one
    CALLBACK_MALFORMED = "callback_malformed"  # a broken one comes before the real one

    PARTNER_PRICE_CHANGED = "partner_price_changed"  # it costs a tenth more from now on; not done
    PARTNER_HOLD_ENDS_EARLY = "partner_hold_ends_early"  # a tentative booking lasts a second; done
    PARTNER_CANCEL_REFUSED = "partner_cancel_refused"  # not done
    PARTNER_OFFER_GONE = "partner_offer_gone"  # not done
    PARTNER_ACCEPTED_ONLY = "partner_accepted_only"  # 202, and nothing is ever said again; done

    @property
    def stage(self) -> Stage:
        """The stage at which this fault strikes."""
        for stage in (Stage.LOOK_UP, Stage.CALLBACK, Stage.PARTNER):
            if self.value.startswith(f"{stage.value}_"):
                return stage
        return Stage.SUBMIT


_STAGES: Final = {fault: fault.stage for fault in Fault}
_NORMAL: Final = NormalDist()
_BITS: Final = 53


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Latency(_Model):
    """How long something takes, in milliseconds around a median. A `sigma` of 0 makes lognormal fixed."""

    kind: Literal["fixed", "lognormal", "exponential"] = "fixed"
    median_ms: float = Field(default=0.0, ge=0)
    sigma: float = Field(default=0.5, ge=0)
    max_ms: float = Field(default=30_000.0, ge=0)

    def seconds(self, unit: float) -> float:
        """Return the latency that a number in [0, 1) stands for, in seconds."""
        return min(self._milliseconds(unit), self.max_ms) / 1000

    def _milliseconds(self, unit: float) -> float:
        if self.kind == "lognormal":
            return self.median_ms * math.exp(self.sigma * _NORMAL.inv_cdf(max(unit, 1e-9)))
        if self.kind == "exponential":
            return -self.median_ms / math.log(2) * math.log1p(-unit)
        return self.median_ms


class ProviderFaults(_Model):
    """How one provider behaves. All times in seconds, except the latencies' own units.

    `latency`: from the work to the answer. `processing`: from the work to the result, asynchronous ones only.
    """

    latency: Latency = Latency()
    processing: Latency = Latency()
    rates: Mapping[Fault, Annotated[float, Field(ge=0, le=1)]] = {}
    look_up_lag_s: float = Field(default=0.0, ge=0)
    late_work_s: float = Field(default=0.5, ge=0)
    hold_s: float = Field(default=30.0, ge=0)
    retry_after_s: int = Field(default=1, ge=0)
    callback_late_s: float = Field(default=3.0, ge=0)
    callback_skew_s: float = Field(default=120.0, ge=0)
    callback_stale_s: float = Field(default=3600.0, ge=0)

    @model_validator(mode="after")
    def _rates_leave_room(self) -> ProviderFaults:
        for stage in Stage:
            if sum(rate for fault, rate in self.rates.items() if _STAGES[fault] == stage) > 1:
                raise ValueError(f"the rates of stage {stage.value} add up to more than 1")
        return self


class Script(_Model):
    """The next `times` calls of a provider, or of one reference of it, meet this fault."""

    provider: str
    fault: Fault
    times: int = Field(default=1, ge=1)
    reference: str | None = None


class FaultPlan(_Model):
    """The whole of what goes wrong. `default` holds for every provider that `providers` does not name."""

    seed: int = 1
    default: ProviderFaults = ProviderFaults()
    providers: Mapping[str, ProviderFaults] = {}
    scripts: tuple[Script, ...] = ()

    def of(self, provider: str) -> ProviderFaults:
        """Return how one provider behaves."""
        return self.providers.get(provider, self.default)


@dataclass(slots=True)
class _Waiting:
    script: Script
    left: int

    def strikes(self, stage: Stage, provider: str, reference: str) -> bool:
        script = self.script
        return (
            script.provider == provider
            and _STAGES[script.fault] == stage
            and script.reference in (None, reference)
        )


class Faults:
    """Draws faults and latencies from a plan, and counts down its scripts."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._waiting = [_Waiting(script, script.times) for script in plan.scripts]
        self._draws: Counter[tuple[str, str, str]] = Counter()
        self._rates: dict[tuple[str, Stage], tuple[tuple[Fault, float], ...]] = {}

    def script(self, script: Script) -> None:
        """Add a script behind those that wait."""
        self._waiting.append(_Waiting(script, script.times))

    def scripts_left(self) -> list[Script]:
        """Return the scripts that have not run out, with the times that are left."""
        return [waiting.script.model_copy(update={"times": waiting.left}) for waiting in self._waiting]

    def draw(
        self, stage: Stage, *, provider: str, reference: str, always: Collection[Fault] = ()
    ) -> Fault | None:
        """Return the fault of this call at this stage: a persona's, else a script's, else one by rate."""
        for fault in always:
            if _STAGES[fault] == stage:
                return fault
        return self._scripted(stage, provider, reference) or self._by_rate(stage, provider, reference)

    def draw_one(self, fault: Fault, *, provider: str, reference: str) -> bool:
        """Return whether a call meets this very fault: by a script that waits for it, else by its rate."""
        for waiting in self._waiting:
            if waiting.script.fault is fault and waiting.strikes(_STAGES[fault], provider, reference):
                self._count_down(waiting)
                return True
        rate = self.plan.of(provider).rates.get(fault, 0.0)
        return rate > 0 and self.unit(fault.value, provider=provider, reference=reference) < rate

    def unit(self, purpose: str, *, provider: str, reference: str) -> float:
        """Return the next number in [0, 1) for this purpose and reference."""
        key = (purpose, provider, reference)
        self._draws[key] += 1
        text = "|".join((str(self.plan.seed), *key, str(self._draws[key])))
        return (int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 11) / (1 << _BITS)

    def _scripted(self, stage: Stage, provider: str, reference: str) -> Fault | None:
        for waiting in self._waiting:
            if waiting.strikes(stage, provider, reference):
                self._count_down(waiting)
                return waiting.script.fault
        return None

    def _count_down(self, waiting: _Waiting) -> None:
        waiting.left -= 1
        if not waiting.left:
            self._waiting.remove(waiting)

    def _by_rate(self, stage: Stage, provider: str, reference: str) -> Fault | None:
        rates = self._rates_of(provider, stage)
        if not rates:
            return None
        unit = self.unit(stage.value, provider=provider, reference=reference)
        for fault, rate in rates:
            unit -= rate
            if unit < 0:
                return fault
        return None

    def _rates_of(self, provider: str, stage: Stage) -> tuple[tuple[Fault, float], ...]:
        key = (provider, stage)
        if key not in self._rates:
            rates = self.plan.of(provider).rates.items()
            self._rates[key] = tuple((fault, rate) for fault, rate in rates if _STAGES[fault] == stage)
        return self._rates[key]
