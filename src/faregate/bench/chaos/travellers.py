"""Members who redeem while things break: they search, book, answer new prices and change their minds.

Each request goes out under its key until it is answered, as a client's would. What really became of everything is
judged afterwards, by whoever can see partners and ledger.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import aiohttp
import orjson

from faregate.bench.partner import TRY_TIMEOUT, Sent

SEARCHES: Final[Mapping[str, Mapping[str, str]]] = {
    "flight": {"origin": "JFK", "destination": "ZRH", "on": "2027-03-01"},
    "hotel": {"destination": "ZRH", "on": "2027-03-01", "until": "2027-03-04"},
}
TRIPS: Final[Sequence[Sequence[str]]] = (
    ("airline_a",),
    ("airline_b",),
    ("hotel_c",),
    ("hotel_d",),
    ("airline_a", "hotel_c"),
    ("airline_b", "hotel_d"),
)
CANCEL_SHARE: Final = 0.1
YES_SHARE: Final = 0.8
LOOK_S: Final = 0.5


@dataclass(slots=True)
class Begun:
    """What was accepted: the redemption of each member by number."""

    redemptions: dict[int, str] = field(default_factory=dict)
    answered: int = 0
    cancelled: int = 0


class Travellers:
    """Redeems for members at any of the API's addresses with one API key."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        token: str,
        members: Sequence[str],
        rate_per_s: float,
        seed: int,
        concurrency: int = 32,
    ) -> None:
        self._session = session
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._members = members
        self._pace_s = 1 / rate_per_s
        self._concurrency = concurrency
        self._random = random.Random(seed)  # noqa: S311 - habits, not secrets
        self.begun = Begun()

    async def redeem(self, numbers: Iterable[int], *, on_progress: Callable[[int], None]) -> None:
        """Let members of these numbers redeem, taken one by one when their time has come."""
        waiting, begin = enumerate(numbers), perf_counter()

        async def traveller() -> None:
            for place, number in waiting:
                await asyncio.sleep(max(0.0, begin + place * self._pace_s - perf_counter()))
                await self._redeem_one(number)
                on_progress(len(self.begun.redemptions))

        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(traveller())

    async def answer_questions(self) -> None:
        """Say yes or no to new prices, until cancelled."""
        while True:
            for redemption in list(self.begun.redemptions.values()):
                found = await self._once("GET", f"/api/travel/redemptions/{redemption}")
                question = (found or {}).get("question")
                if question:
                    said = {
                        "leg": question["leg"],
                        "price_minor": question["price_minor"],
                        "accept": self._random.random() < YES_SHARE,
                    }
                    key = f"answer-{redemption}-{question['leg']}-{question['price_minor']}"
                    await self._once("POST", f"/api/travel/redemptions/{redemption}/answer", said, key=key)
                    self.begun.answered += 1
            await asyncio.sleep(LOOK_S)

    async def _redeem_one(self, number: int) -> None:
        member, tries = self._members[number], 0
        while True:
            tries += 1
            offers = [await self._offer(member, partner) for partner in TRIPS[number % len(TRIPS)]]
            legs = [{name: one[name] for name in ("partner", "offer_id", "price_minor")} for one in offers]
            key = f"trip-{member}-{tries}"
            answer = await self._until_answered(
                "/api/travel/redemptions", {"member_id": member, "legs": legs}, key=key
            )
            if "redemption_id" in answer:
                break
        redemption = str(answer["redemption_id"])
        self.begun.redemptions[number] = redemption
        if self._random.random() < CANCEL_SHARE:
            await asyncio.sleep(self._random.uniform(0, 5))
            await self._until_answered(
                f"/api/travel/redemptions/{redemption}/cancel", None, key=f"c-{redemption}"
            )
            self.begun.cancelled += 1

    async def _offer(self, member: str, partner: str) -> Mapping[str, Any]:
        """Search until the partner is among the answers."""
        kind = "flight" if partner.startswith("airline") else "hotel"
        while True:
            found = await self._once(
                "POST", f"/api/travel/{kind}-searches", {"member_id": member, **SEARCHES[kind]}
            )
            mine = [one for one in (found or {}).get("offers", ()) if one["partner"] == partner]
            if mine:
                return dict(self._random.choice(mine))
            await asyncio.sleep(LOOK_S)

    async def _until_answered(self, path: str, body: Any, *, key: str) -> Mapping[str, Any]:
        """Send the same request until it is answered; a refusal is an answer."""
        while True:
            found = await self._once("POST", path, body, key=key)
            if found is not None:
                return found
            await asyncio.sleep(LOOK_S)

    async def _once(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> Mapping[str, Any] | None:
        """Send a request once; None when it was not answered, by whatever fault."""
        headers = {**self._headers, **({"Idempotency-Key": f'"{key}"'} if key else {})}
        url = self._random.choice(self._urls) + path
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(
                method, url, data=data, headers=headers, timeout=TRY_TIMEOUT
            ) as answer:
                sent, said = Sent.of(answer), await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return None
        if not sent.is_answered or (sent.status == 409 and b"request-in-flight" in said):
            return None
        answered: Mapping[str, Any] = orjson.loads(said)
        return answered
