"""What a fault run breaks: the kinds of faults, how they are spread over time, and what counts as having happened.

A run has three tracks at once: processes of ours, servers, and the providers outside. On each, one fault begins
after the last one is over, in an order drawn from the seed, until the time is up and every kind has happened.
Callbacks that are lost, doubled, late, overtaken, forged or signed by a wrong clock happen by rate all the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from faregate.sandbox.faults import Fault, FaultPlan, Latency, Stage

APPLICATIONS_A_MINUTE: Final = 400
OPERATIONS_A_MINUTE: Final = 4_000
SECONDS_MAX_LEAST: Final = 240.0
CHECKS: Final = ("bureau", "kyc", "fraud", "income")
"""The providers of credit that have incidents. The second bureau has none: it is asked when the first is down."""


class Kind(StrEnum):
    """A fault that begins and ends. The value is how the report names it."""

    KILL_API = "API killed"
    KILL_WORKER = "worker killed"
    FREEZE_API = "API frozen"
    FREEZE_WORKER = "worker frozen"
    KILL_SANDBOX = "sandbox killed"
    FREEZE_SANDBOX = "sandbox frozen"
    KILL_VALKEY = "Valkey killed"
    FREEZE_VALKEY = "Valkey frozen"
    RESTART_POSTGRES = "PostgreSQL restarted at once"
    KILL_POSTGRES = "PostgreSQL killed"
    PROVIDER_FAILS = "provider failing"
    PROVIDER_HANGS = "provider hanging"
    PROVIDER_BLACK_HOLE = "provider black-holed"
    PROVIDER_SLOW = "provider slow"
    KILL_KAFKA = "Kafka killed"
    KILL_RELAY = "relay killed"
    KILL_CONSUMERS = "consumers killed"


TRACKS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "processes": (
        Kind.KILL_API,
        Kind.KILL_WORKER,
        Kind.FREEZE_API,
        Kind.FREEZE_WORKER,
        Kind.KILL_SANDBOX,
        Kind.FREEZE_SANDBOX,
    ),
    "servers": (Kind.KILL_VALKEY, Kind.FREEZE_VALKEY, Kind.RESTART_POSTGRES, Kind.KILL_POSTGRES),
    "providers": (
        Kind.PROVIDER_FAILS,
        Kind.PROVIDER_HANGS,
        Kind.PROVIDER_BLACK_HOLE,
        Kind.PROVIDER_SLOW,
    ),
}
HAPPENED_TO_CALLBACKS: Final = ("duplicates", "overtaken", "skewed_accepted", "stale_refused", "faulty")
"""What the sandbox must have counted of its callbacks."""
NEVER_TO_CALLBACKS: Final = ("skewed_refused", "stale_accepted", "faulty_accepted")
"""What it must not have counted: a genuine one refused, or one that nobody should accept taken."""

_STRIKES: Final[Mapping[Kind, Mapping[Fault, float]]] = {
    Kind.PROVIDER_FAILS: {Fault.UNAVAILABLE: 1.0},
    Kind.PROVIDER_HANGS: {Fault.HANG_AFTER: 1.0},
    Kind.PROVIDER_BLACK_HOLE: {Fault.HANG_BEFORE: 1.0, Fault.LOOK_UP_HANG: 1.0},
    Kind.PROVIDER_SLOW: {},
}
_HOLD_S: Final = 30.0
_SLOW: Final = Latency(kind="lognormal", median_ms=1500, sigma=0.3, max_ms=5000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    """How much of everything. Times in seconds; `operations_min` counts submissions and reads of a status.

    The faults stop after `seconds`, but not before each has happened and the clients have done their part, who go on
    until then; a run that does not get there within `seconds_max` says so by its checks.
    """

    seconds: float
    seconds_max: float
    applications: int
    operations_min: int
    fault_s_min: float = 1.0
    fault_s_max: float = 6.0
    pause_s_min: float = 0.5
    pause_s_max: float = 3.0
    settle_s_max: float = 60.0
    seed: int = 1
    kafka: bool = False
    processes: bool = False
    providers: tuple[str, ...] = CHECKS

    @property
    def tracks(self) -> Mapping[str, tuple[Kind, ...]]:
        """What is broken, by track: a part that runs inside of another is killed with it."""
        consumers = (Kind.KILL_CONSUMERS,) if self.processes else ()
        relay = (Kind.KILL_RELAY,) if self.processes and self.kafka else ()
        broker = (Kind.KILL_KAFKA,) if self.kafka else ()
        return {
            **TRACKS,
            "processes": TRACKS["processes"] + consumers + relay,
            "servers": TRACKS["servers"] + broker,
        }

    @property
    def kinds(self) -> Sequence[Kind]:
        """Every kind of fault that is to happen."""
        return [kind for kinds in self.tracks.values() for kind in kinds]

    @classmethod
    def of_minutes(
        cls,
        minutes: float,
        *,
        applications: int | None = None,
        seed: int = 1,
        kafka: bool = False,
        processes: bool = False,
        settle_s_max: float = 60.0,
    ) -> ChaosPlan:
        """Return a plan of so many minutes, with clients as busy as five minutes of 2,000 applications need."""
        return cls(
            seconds=minutes * 60,
            seconds_max=max(minutes * 180, SECONDS_MAX_LEAST),
            applications=round(minutes * APPLICATIONS_A_MINUTE) if applications is None else applications,
            operations_min=round(minutes * OPERATIONS_A_MINUTE),
            seed=seed,
            kafka=kafka,
            processes=processes,
            settle_s_max=settle_s_max,
        )


def strikes_of(kind: Kind) -> frozenset[Fault]:
    """Return the faults with which the sandbox carries out a provider's incident; none for slowness."""
    return frozenset(_STRIKES[kind])


def with_incident(plan: FaultPlan, kind: Kind, *, provider: str) -> FaultPlan:
    """Return the plan with one provider down in some way: it takes the place of what strikes its calls by rate."""
    usual, strikes = plan.of(provider), _STRIKES[kind]
    stages = {fault.stage for fault in strikes} or {Stage.SUBMIT}
    kept = {fault: rate for fault, rate in usual.rates.items() if fault.stage not in stages}
    latency = _SLOW if kind is Kind.PROVIDER_SLOW else usual.latency
    behaviour = usual.model_copy(update={"rates": {**kept, **strikes}, "hold_s": _HOLD_S, "latency": latency})
    return plan.model_copy(update={"providers": {**plan.providers, provider: behaviour}})
