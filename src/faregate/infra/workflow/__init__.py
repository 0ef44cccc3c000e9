"""Durable workflows: a port, the tables that make its promises true, and the engine behind it.

The engine schedules, our tables decide: that a run starts once, that a step happens once, that a signal counts once
and that a worker declared dead can write nothing more are rows under constraints, whatever the engine does twice.
"""

from faregate.infra.workflow.port import (
    Json,
    NewRun,
    RetryPolicy,
    Run,
    RunFailed,
    RunState,
    Signal,
    Workflow,
    WorkflowEngine,
)
from faregate.infra.workflow.requests import (
    failed_among,
    failed_runs,
    send_signals,
    start_runs,
    unfinished,
    waiting_for_a_worker,
)

__all__ = [
    "Json",
    "NewRun",
    "RetryPolicy",
    "Run",
    "RunFailed",
    "RunState",
    "Signal",
    "Workflow",
    "WorkflowEngine",
    "failed_among",
    "failed_runs",
    "send_signals",
    "start_runs",
    "unfinished",
    "waiting_for_a_worker",
]
