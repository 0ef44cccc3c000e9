"""A partner that submits applications as real ones do: it retries what fails, repeats itself, and never gives up.

Every repetition carries the same Idempotency-Key, so all answers for one applicant must name one application.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp

from faregate.kernel.errors import UnavailableError

PATH = "/api/credit-applications"
RETRY_S = 0.2
PAUSE_S_MAX = 2.0
TRIES = 2
TRY_TIMEOUT = aiohttp.ClientTimeout(total=15.0)
GIVE_UP_S = 120.0
_TRY_AGAIN = frozenset({409, 429, 500, 502, 503, 504})


class PartnerGaveUp(UnavailableError):
    """A request was refused for good, or not answered however often it was repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a partner behaves: requests in flight at once, and the shares sent twice at once or again later.

    `rate_per_s` None sends as fast as it is answered.
    """

    concurrency: int = 32
    doubled_share: float = 0.05
    repeated_share: float = 0.05
    rate_per_s: float | None = None
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A submission or a read of a status: one request and one retry, on the clock of `time.perf_counter`.

    It is available when either was answered, with whatever status below 500 but 429.
    """

    kind: str
    begin: float
    end: float
    is_available: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one request: its status, if there was an answer, and how long to wait before another."""

    status: int | None = None
    pause_s: float = RETRY_S

    @classmethod
    def of(cls, answer: aiohttp.ClientResponse) -> Sent:
        """Return what an answer says; a client does as `Retry-After` asks, within reason."""
        asked = answer.headers.get("Retry-After", "")
        return cls(answer.status, min(float(asked), PAUSE_S_MAX) if asked.isdecimal() else RETRY_S)

    @property
    def is_answered(self) -> bool:
        """Whether it was answered: not broken off, not a failure of ours, not turned away."""
        return self.status is not None and self.status < 500 and self.status != 429


@dataclass(slots=True)
class Submitted:
    """What came of it: the application of each number, and how the requests went."""

    application_ids: dict[int, str] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
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
        on_operation: Callable[[Operation], None] = lambda _: None,
    ) -> None:
        self._session = session
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}
        self._body_of = body_of
        self._run = run
        self._habits = habits
        self._on_operation = on_operation
        self._random = random.Random(habits.seed)  # noqa: S311 - habits, not secrets
        self.submitted = Submitted()

    async def submit(self, numbers: Iterable[int], *, on_progress: Callable[[int], None]) -> Submitted:
        """Submit the applications of these numbers, taken one by one when their time has come; return what came."""
        waiting = enumerate(numbers)
        begin = perf_counter()
        pace_s = 1 / self._habits.rate_per_s if self._habits.rate_per_s else 0.0

        async def sender() -> None:
            for place, number in waiting:
                await asyncio.sleep(max(0.0, begin + place * pace_s - perf_counter()))
                await self._submit_one(number)
                on_progress(len(self.submitted.application_ids))

        async with asyncio.TaskGroup() as group:
            for _ in range(self._habits.concurrency):
                group.create_task(sender())
        self.submitted.seconds = perf_counter() - begin
        return self.submitted

    def known(self) -> Sequence[str]:
        """Return the applications that have been accepted, oldest first."""
        return list(self.submitted.application_ids.values())

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
            application_id = await self._operation(number)
            if application_id is not None:
                self.submitted.latencies_s.append(perf_counter() - begin)
                return application_id
            await asyncio.sleep(RETRY_S)
        raise PartnerGaveUp(f"application {number} was not accepted within {GIVE_UP_S:g} s")

    async def _operation(self, number: int) -> str | None:
        """Send a request and, if there is no answer, again to the next address; None when all is to be repeated."""
        begin, sent = perf_counter(), Sent()
        for tries in range(TRIES):
            if tries:
                await asyncio.sleep(sent.pause_s)
            sent, application_id = await self._once(number, address=number + tries)
            if sent.is_answered:
                break
        ended = Operation(kind="submit", begin=begin, end=perf_counter(), is_available=sent.is_answered)
        self._on_operation(ended)
        return application_id

    async def _once(self, number: int, *, address: int) -> tuple[Sent, str | None]:
        """Send one request: what came of it, and the application if it was accepted."""
        headers = {**self._headers, "Idempotency-Key": f"{self._run}-{number}"}
        url = self._urls[address % len(self._urls)] + PATH
        try:
            async with self._session.post(
                url, json=self._body_of(number), headers=headers, timeout=TRY_TIMEOUT
            ) as answer:
                body = await answer.json(content_type=None)
                self.submitted.answers[answer.status] += 1
                self.submitted.replays += "Idempotent-Replayed" in answer.headers
        except (aiohttp.ClientError, TimeoutError):
            self.submitted.broken += 1
            return Sent(), None
        if answer.status == 202:
            return Sent.of(answer), str(body["application_id"])
        self.submitted.problems[str(body.get("type"))] += 1
        if answer.status in _TRY_AGAIN:
            return Sent.of(answer), None
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
