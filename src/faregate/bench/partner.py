"""A partner that submits applications as real ones do: it retries what fails, repeats itself, and never gives up.

Every repetition carries the same Idempotency-Key, so all answers for one applicant must name one application.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp

from faregate.kernel.errors import UnavailableError

PATH = "/api/credit-applications"
RETRY_S = 0.2
GIVE_UP_S = 120.0
_TRY_AGAIN = frozenset({409, 429, 500, 502, 503, 504})


class PartnerGaveUp(UnavailableError):
    """A request was refused for good, or not answered however often it was repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a partner behaves: requests in flight at once, and the shares sent twice at once or again later."""

    concurrency: int = 32
    doubled_share: float = 0.05
    repeated_share: float = 0.05
    seed: int = 1


@dataclass(slots=True)
class Submitted:
    """What came of it: the application of each number, and how the requests went."""

    application_ids: dict[int, str] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    replays: int = 0
    broken: int = 0
    contradictions: list[int] = field(default_factory=list)
    seconds: float = 0.0


class Partner:
    """Submits to any of the API's addresses with one API key. `body_of` makes the application of a number."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        token: str,
        body_of: Callable[[int], Mapping[str, Any]],
        run: str,
        habits: Habits = Habits(),
    ) -> None:
        self._session = session
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}
        self._body_of = body_of
        self._run = run
        self._habits = habits
        self._random = random.Random(habits.seed)  # noqa: S311 - habits, not secrets
        self.submitted = Submitted()

    async def submit(self, numbers: Sequence[int], *, on_progress: Callable[[int], None]) -> Submitted:
        """Submit the applications of these numbers and return what came of it."""
        waiting = iter(numbers)
        begin = perf_counter()

        async def sender() -> None:
            for number in waiting:
                await self._submit_one(number)
                on_progress(len(self.submitted.application_ids))

        async with asyncio.TaskGroup() as group:
            for _ in range(self._habits.concurrency):
                group.create_task(sender())
        self.submitted.seconds = perf_counter() - begin
        return self.submitted

    async def read(self, application_id: str, what: str = "") -> tuple[int, dict[str, Any]]:
        """Read the status of an application, or with `/decision` its decision: HTTP status and body."""
        url = f"{self._urls[0]}{PATH}/{application_id}{what}"
        async with self._session.get(url, headers=self._headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def _submit_one(self, number: int) -> None:
        doubled = self._random.random() < self._habits.doubled_share
        repeated = self._random.random() < self._habits.repeated_share
        ids = await asyncio.gather(*(self._until_accepted(number) for _ in range(2 if doubled else 1)))
        if repeated:
            ids.append(await self._until_accepted(number))
        self.submitted.application_ids[number] = ids[0]
        if len(set(ids)) != 1:
            self.submitted.contradictions.append(number)

    async def _until_accepted(self, number: int) -> str:
        begin = perf_counter()
        while perf_counter() - begin < GIVE_UP_S:
            application_id = await self._once(number)
            if application_id is not None:
                self.submitted.latencies_s.append(perf_counter() - begin)
                return application_id
            await asyncio.sleep(RETRY_S)
        raise PartnerGaveUp(f"application {number} was not accepted within {GIVE_UP_S:g} s")

    async def _once(self, number: int) -> str | None:
        """Send one request; None when it should be repeated."""
        headers = {**self._headers, "Idempotency-Key": f"{self._run}-{number}"}
        url = self._urls[number % len(self._urls)] + PATH
        try:
            async with self._session.post(url, json=self._body_of(number), headers=headers) as answer:
                body = await answer.json(content_type=None)
                self.submitted.answers[answer.status] += 1
                self.submitted.replays += "Idempotent-Replayed" in answer.headers
        except (aiohttp.ClientError, TimeoutError):
            self.submitted.broken += 1
            return None
        if answer.status == 202:
            return str(body["application_id"])
        if answer.status in _TRY_AGAIN:
            return None
        raise PartnerGaveUp(f"application {number} was refused: {body}", status=answer.status)


async def wait_until(
    condition: Callable[[], Awaitable[bool]], *, timeout_s: float, every_s: float = 0.25
) -> bool:
    """Ask until the condition holds; False if it does not within the time-out."""
    end = perf_counter() + timeout_s
    while not await condition():
        if perf_counter() > end:
            return False
        await asyncio.sleep(every_s)
    return True
