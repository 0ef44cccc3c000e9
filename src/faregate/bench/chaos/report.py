"""What a fault run says: its checks, a JSON document and a short table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from rich.table import Table

from faregate.bench.chaos.clients import Availability, outside_of
from faregate.bench.chaos.plan import HAPPENED_TO_CALLBACKS, NEVER_TO_CALLBACKS
from faregate.bench.chaos.run import ChaosRun
from faregate.bench.chaos.topics import TopicsFound
from faregate.bench.verdict import percentile

AVAILABLE_PERCENT_MIN: Final = 99.95
FAILURES_SHOWN: Final = 50
DEFINITIONS: Final = {
    "operation": (
        "a submission or a read of a status: one request and one retry at the other API process, after as long as "
        "Retry-After asks for (2 s at most), or 0.2 s"
    ),
    "available": "one of the two was answered with a status below 500 other than 429",
    "postgres_down": (
        "from the last answer before a failure until the first answer after it, as seen by an independent connection "
        "that asks every 50 ms, in whole seconds of the run; an operation with any instant in it counts as inside"
    ),
}


def checks_of(run: ChaosRun) -> Mapping[str, bool]:
    """Return what must hold, by its sentence."""
    happened = [run.faults.get(kind, 0) for kind in run.plan.kinds]
    happened += [run.world.get(name, 0) for name in HAPPENED_TO_CALLBACKS]
    return {
        **run.verdict.checks,
        f"nothing stranded {run.plan.settle_s_max:g} s after the faults stopped": not run.stranded,
        "audit chain intact": run.chain.verification.broken is None and run.chain.verification.links > 0,
        "every kind of fault happened": all(happened),
        "PostgreSQL was seen down": bool(run.outages),
        "no callback taken that is forged or of a wrong time, none of a tolerable time refused": not any(
            run.world.get(name, 0) for name in NEVER_TO_CALLBACKS
        ),
        **({} if run.topics is None else topic_checks(run.topics)),
        f"at least {run.plan.applications:,} applications accepted": len(run.submitted.application_ids)
        >= run.plan.applications,
        f"at least {run.plan.operations_min:,} submissions and reads": run.availability().all
        >= run.plan.operations_min,
        f"{AVAILABLE_PERCENT_MIN} % available while PostgreSQL is up": run.availability().outside_percent
        >= AVAILABLE_PERCENT_MIN,
    }


def topic_checks(found: TopicsFound) -> Mapping[str, bool]:
    """Return what must hold of the topics."""
    return {
        "every event of the log is in the topics": found.missing == 0,
        "no event is in the topics twice": found.doubled == 0,
        "the order of the log holds along every partition of the topics": found.out_of_order == 0,
    }


def document_of(run: ChaosRun) -> dict[str, Any]:
    """Return the run as one JSON document. Times in seconds."""
    waited = run.verdict.decision_latencies_s
    return {
        "name": "chaos-credit",
        "seed": run.plan.seed,
        "applications": len(run.submitted.application_ids),
        "faults": {kind.value: run.faults.get(kind, 0) for kind in run.plan.kinds},
        "callbacks": {
            name: run.world.get(name, 0) for name in (*HAPPENED_TO_CALLBACKS, *NEVER_TO_CALLBACKS, "lost")
        },
        "struck": _by_fault(run.world),
        "fault_s": round(run.fault_s, 1),
        "settle_s": round(run.settle_s, 1),
        "stranded": list(run.stranded),
        "postgres_down": {
            "outages": len(run.outages),
            "seconds": round(sum(outage.end - outage.begin for outage in run.outages), 2),
        },
        "availability": {
            name: {
                **_availability(run.availability(kind)),
                "percent_to_the_instant": round(
                    run.availability(kind, to_the_instant=True).outside_percent, 4
                ),
            }
            for name, kind in (("all", None), ("submit", "submit"), ("read", "read"))
        },
        "definitions": DEFINITIONS,
        "unavailable_while_postgres_is_up": _failures(run),
        "submissions": {
            "answers": dict(run.submitted.answers),
            "problems": dict(run.submitted.problems),
            "broken": run.submitted.broken,
        },
        "states": dict(run.verdict.states),
        "share_with_all_checks": round(run.verdict.share_with_all_checks, 4),
        "decision_s": {f"p{p}": round(percentile(waited, p), 3) for p in (50, 95, 99)},
        "provider_calls": {name: run.verdict.world[name] for name in ("executed", "duplicates")},
        "pulled_again": list(run.verdict.pulled_again),
        "topics": None if run.topics is None else asdict(run.topics),
        "audit_links": run.chain.verification.links,
        "checks": dict(checks_of(run)),
    }


def table_of(run: ChaosRun) -> Table:
    """Return the short table: faults, availability, what became of the applications, and the checks."""
    document = document_of(run)
    lines = Table(title="chaos credit", show_header=False, title_justify="left", min_width=60)
    for name, count in {**document["faults"], **document["callbacks"]}.items():
        lines.add_row(name.replace("_", " "), f"{count:,}")
    lines.add_section()
    down = document["postgres_down"]
    lines.add_row("PostgreSQL down", f"{down['seconds']} s in {down['outages']} outages")
    for name, kind in (("all", None), ("submissions", "submit"), ("reads", "read")):
        lines.add_row(f"available, {name}", _words(run.availability(kind)))
    exact = run.availability(to_the_instant=True)
    lines.add_row(
        "with outages to the instant", f"{exact.outside_percent:.3f} % ({exact.outside_failed} failed)"
    )
    lines.add_section()
    lines.add_row("decided", ", ".join(f"{n:,} {state}" for state, n in document["states"].items()))
    lines.add_row("decided with every check", f"{run.verdict.share_with_all_checks:.1%}")
    lines.add_row("settled after the faults", f"{run.settle_s:.0f} s")
    lines.add_section()
    for sentence, held in document["checks"].items():
        lines.add_row(sentence, "[green]ok[/]" if held else "[bold red]FAILED[/]")
    return lines


def _failures(run: ChaosRun) -> list[dict[str, Any]]:
    """The first of the operations that failed while PostgreSQL was up: when, and how long after it had come back."""
    failed = [op for op in outside_of(run.operations, run.outages) if not op.is_available]
    return [
        {
            "kind": op.kind,
            "at_s": round(op.begin - run.begin, 1),
            "lasted_s": round(op.end - op.begin, 2),
            "after_outage_s": min(
                (round(op.begin - outage.end, 2) for outage in run.outages if outage.end <= op.begin),
                default=None,
            ),
        }
        for op in failed[:FAILURES_SHOWN]
    ]


def _availability(found: Availability) -> dict[str, Any]:
    return {
        **asdict(found),
        "percent": round(found.percent, 4),
        "percent_while_postgres_is_up": round(found.outside_percent, 4),
    }


def _words(found: Availability) -> str:
    return (
        f"{found.percent:.3f} % of {found.all:,}; while PostgreSQL is up {found.outside_percent:.3f} % "
        f"of {found.outside:,} ({found.outside_failed} failed)"
    )


def _by_fault(world: Mapping[str, int]) -> dict[str, int]:
    """How often each fault struck a call, over all providers."""
    counts: Counter[str] = Counter()
    for name, count in world.items():
        _, _, fault = name.partition(":")
        if fault and fault != "calls":
            counts[fault] += count
    return dict(counts)
