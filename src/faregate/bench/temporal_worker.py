"""The Temporal peer's worker as a process of its own, until it is ended. Its plan is in
FAREGATE_BENCH_PEER.

It is given what it can use: many activities at once, no workflow sandbox, which costs CPU and helps
nobody here.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aiohttp
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from faregate.bench.temporal_flow import (
    TASK_QUEUE,
    Activities,
    Artefacts,
    CreditApplication,
    Providers,
    adapters_of,
)

PLAN_VARIABLE = "FAREGATE_BENCH_PEER"
CONCURRENT_MAX = 200


async def serve(plan: dict[str, Any]) -> None:
    """Work until the process is ended."""
    client = await Client.connect(plan["address"])
    connector = aiohttp.TCPConnector(limit=CONCURRENT_MAX)
    async with aiohttp.ClientSession(connector=connector) as session:
        activities = Activities(
            adapters=adapters_of(Providers(**plan["providers"]), session=session),
            callback_url=plan["callback_url"],
            artefacts=Artefacts(**plan["artefacts"]),
        )
        asked = (activities.ask_bureau, activities.ask_kyc, activities.ask_fraud, activities.ask_income)
        async with Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[CreditApplication],
            activities=[*asked, activities.decide],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_concurrent_activities=CONCURRENT_MAX,
            max_concurrent_workflow_tasks=CONCURRENT_MAX,
        ):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(os.environ[PLAN_VARIABLE])))
