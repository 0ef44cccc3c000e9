"""Tells a story to a running system over HTTP, as fast as it answers or at any speed, and sums up what it said.

    told = await replay(story, cast, site, session=session)

Flat out, everything has happened already when it is told: behaviour goes first, in batches, then the payments, those of
one card in their order. What a payment's features are is the same as if each had been told in its moment, because they
follow the times of events. At a speed, each act is told in its moment, and happens then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import aiohttp

from faregate.kernel.clock import Clock
from faregate.kernel.errors import UnavailableError
from faregate.sandbox.traffic.sessions import DURATION_S, Act

EVENTS: Final = "/api/fraud/events"
PAYMENTS: Final = "/api/payments/authorizations"
BATCH: Final = 200
TRIES_MAX: Final = 20
PAUSE_S: Final = 0.5
PAUSE_S_MAX: Final = 5.0
_BUSY: Final = (429, 503)


class StoryRefused(UnavailableError):
    """The system said something to a request of the story that no story can go on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Who plays a member of the story: an id, and the token or the number of a card."""

    member_id: str
    card_token: str | None = None
    card_number: str | None = field(default=None, repr=False)

    @property
    def card(self) -> Mapping[str, str]:
        """The card as a payment names it."""
        named = {"card_token": self.card_token, "card_number": self.card_number}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a story is told. Ids and keys begin with `run`: the same run again has no second effect."""

    url: str
    token: str = field(repr=False)
    run: str
    speed: float | None = None
    at_once: int = 16


@dataclass(kw_only=True)
class Told:
    """What the system said. `answers` counts the answers to payments by what they say; of frauds apart.

    `passed` has the ids of payments that were authorised without more ado, with their amounts in minor units.
    """

    seconds: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    payments: int = 0
    frauds: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    answers_to_frauds: Counter[str] = field(default_factory=Counter)
    passed: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the summary for programs."""
        return {
            "seconds": round(self.seconds, 1),
            "events": dict(self.events),
            "payments": self.payments,
            "answers": dict(self.answers),
            "frauds": self.frauds,
            "answers_to_frauds": dict(self.answers_to_frauds),
        }


async def replay(
    story: Sequence[Act],
    cast: Sequence[Played],
    stage: Stage,
    *,
    session: aiohttp.ClientSession,
    clock: Clock,
    between: Callable[[], Awaitable[None]] | None = None,
    say: Callable[[int], None] = lambda _: None,
) -> Told:
    """Tell the story, whose member n is played by the nth of the cast. Raises StoryRefused.

    `between` is awaited, flat out, once all behaviour was told and no payment yet. `say` hears how many were paid.
    """
    teller = _Teller(story, cast, stage, session=session, clock=clock, say=say)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await (teller.flat_out(between) if stage.speed is None else teller.at_speed(stage.speed))
    except* StoryRefused as refused:
        raise refused.exceptions[0] from None
    teller.told.seconds = loop.time() - began
    return teller.told


class _Teller:
    def __init__(
        self,
        story: Sequence[Act],
        cast: Sequence[Played],
        stage: Stage,
        *,
        session: aiohttp.ClientSession,
        clock: Clock,
        say: Callable[[int], None],
    ) -> None:
        self._story = list(enumerate(story))
        self._cast = cast
        self._stage = stage
        self._session = session
        self._clock = clock
        self._say = say
        self.told = Told()

    async def flat_out(self, between: Callable[[], Awaitable[None]] | None) -> None:
        began = self._clock.now() - timedelta(seconds=DURATION_S)

        def at(act: Act) -> datetime:
            return began + timedelta(seconds=act.at_s)

        behaviour = iter([self._event(number, act, at(act)) for number, act in self._story if not _pays(act)])
        while batch := list(islice(behaviour, BATCH)):
            await self._report(batch)
        if between is not None:
            await between()
        by_member: dict[int, list[tuple[int, Act]]] = {}
        for number, act in self._story:
            if _pays(act):
                by_member.setdefault(act.member, []).append((number, act))
        waiting = iter(by_member.values())
        # One iterator for all: whoever is done takes the next member.
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._stage.at_once):
                tasks.create_task(self._pay_for(waiting, at))

    async def _pay_for(
        self, waiting: Iterator[Sequence[tuple[int, Act]]], at: Callable[[Act], datetime]
    ) -> None:
        for acts in waiting:
            for number, act in acts:
                await self._pay(number, act, at(act))

    async def at_speed(self, speed: float) -> None:
        loop = asyncio.get_running_loop()
        began, under_way = loop.time(), asyncio.Semaphore(self._stage.at_once)

        async def tell(number: int, act: Act) -> None:
            try:
                now = self._clock.now()
                if _pays(act):
                    await self._pay(number, act, now)
                else:
                    await self._report([self._event(number, act, now)])
            finally:
                under_way.release()

        async with asyncio.TaskGroup() as tasks:
            for number, act in self._story:
                await asyncio.sleep(began + act.at_s / speed - loop.time())
                await under_way.acquire()
                tasks.create_task(tell(number, act))

    def _event(self, number: int, act: Act, at: datetime) -> dict[str, Any]:
        return {
            "id": f"{self._stage.run}-{number}",
            "kind": act.kind,
            "occurred_at": at.isoformat(),
            "member_id": self._cast[act.member].member_id,
            **act.says,
        }

    async def _report(self, events: Sequence[Mapping[str, Any]]) -> None:
        answer = await self._post(EVENTS, {"events": events}, key=None)
        for one in answer["events"]:
            self.told.events[one["outcome"]] += 1

    async def _pay(self, number: int, act: Act, at: datetime) -> None:
        body = {**self._cast[act.member].card, **act.says, "occurred_at": at.isoformat()}
        answer = await self._post(PAYMENTS, body, key=f"{self._stage.run}-{number}")
        said = f"{answer['status']}, flagged" if answer["flagged"] else str(answer["status"])
        self.told.payments += 1
        self.told.frauds += act.is_fraud
        self.told.answers[said] += 1
        if said == "authorised":
            self.told.passed[answer["payment_id"]] = body["amount_minor"]
        if act.is_fraud:
            self.told.answers_to_frauds[said] += 1
        self._say(self.told.payments)

    async def _post(self, path: str, body: Any, *, key: str | None) -> Any:
        """Send until it is answered: once more after a while where there was too much to do, or nobody to answer.

        That may happen twice to the system, under one key or one id.
        """
        headers = {"Authorization": f"Bearer {self._stage.token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        for _ in range(TRIES_MAX):
            try:
                async with self._session.post(self._stage.url + path, json=body, headers=headers) as answer:
                    if answer.status not in _BUSY:
                        return await _said(answer, path)
                    pause_s = float(answer.headers.get("Retry-After", PAUSE_S))
            except aiohttp.ClientError:
                pause_s = PAUSE_S
            await asyncio.sleep(min(pause_s, PAUSE_S_MAX))
        raise StoryRefused(f"{path} had too much to do, or was not there, {TRIES_MAX} times")


async def _said(answer: aiohttp.ClientResponse, path: str) -> Any:
    said = await answer.json(content_type=None)
    if not answer.ok:
        raise StoryRefused(f"{path} answered {answer.status}: {said.get('detail')}")
    return said


def _pays(act: Act) -> bool:
    return act.kind == "payment"
