"""Runs what blocks, such as a call to Kafka, beside the event loop. What is called does not belong here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


async def beside(work: Callable[..., Result], *given: Any, **named: Any) -> Result:
    """Run what blocks in a thread of its own and return its result.

    Nobody waits for the thread when the process ends, unlike for those of `asyncio.to_thread`: a client that waits for
    a broker which is gone cannot be told to stop.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if outcome.done():  # who waited was cancelled
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # there is one when there is no error

    def run() -> None:
        result, failure = None, None
        try:
            result = work(*given, **named)
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="kafka-call", daemon=True).start()
    return await outcome
