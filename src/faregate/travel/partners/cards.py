"""The cash desk: a card processor that does each thing once a key, so whatever was not answered is asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from faregate.gateway.exchange import Answer, exchange
from faregate.kernel.errors import UnavailableError
from faregate.travel.contracts.redemptions import Came

TIMEOUT_S: Final = 5.0


class CashDeskUnavailable(UnavailableError):
    """The card processor cannot be asked at present. What it was asked for is asked again under the same key."""


class CardDesk:
    """Speaks the card processor's protocol."""

    def __init__(self, *, session: aiohttp.ClientSession, base_url: str, api_key: str) -> None:
        self._session = session
        self._base = URL(base_url)
        self._authorization = f"Bearer {api_key}"

    async def authorise(self, *, key: str, member_id: str, amount_minor: int, currency: str) -> Came:
        """Reserve cash."""
        body = {"customer": member_id, "amount_minor": amount_minor, "currency": currency}
        said = await self._ask("authorizations", key=key, body=body)
        if "declined" in said:
            return Came(refusal="declined")
        return Came(facts={"authorisation": str(said["id"])})

    async def capture(self, *, key: str, authorisation: str) -> Came:
        """Take what is authorised."""
        return await self._follow(authorisation, "capture", key=key, body={})

    async def void(self, *, key: str, authorisation: str) -> Came:
        """Release what is authorised."""
        return await self._follow(authorisation, "void", key=key, body={})

    async def refund(self, *, key: str, authorisation: str, amount_minor: int) -> Came:
        """Give captured cash back."""
        return await self._follow(authorisation, "refund", key=key, body={"amount_minor": amount_minor})

    async def _follow(self, authorisation: str, act: str, *, key: str, body: Mapping[str, Any]) -> Came:
        said = await self._ask(f"authorizations/{authorisation}/{act}", key=key, body=body)
        return Came(refusal=str(said["refused"])) if "refused" in said else Came()

    async def _ask(self, path: str, *, key: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = {
            "Authorization": self._authorization,
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        url = self._base.joinpath(*path.split("/"))
        sent = await exchange(
            self._session, "POST", url, timeout_s=TIMEOUT_S, headers=headers, body=orjson.dumps(body)
        )
        if not isinstance(sent, Answer) or sent.status != 200:
            raise CashDeskUnavailable("the card processor cannot be asked at present", retry_after_s=2)
        try:
            said = orjson.loads(sent.body)
            if not {"id", "declined", "refused"} & said.keys():
                raise ValueError("an answer to something else")
        except (ValueError, AttributeError) as error:
            raise CashDeskUnavailable(
                "the card processor's answer is not understood", retry_after_s=2
            ) from error
        return dict(said)
