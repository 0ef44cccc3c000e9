"""The points ledger and members in processes of their own: asked over their HTTP API, as any client would."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import aiohttp
import orjson
import structlog
from yarl import URL

from faregate.gateway.exchange import Answer as HttpAnswer
from faregate.gateway.exchange import exchange
from faregate.kernel.errors import UnavailableError
from faregate.points.contracts.ledger import (
    Answer,
    Balance,
    KeyReused,
    Operation,
    OperationKind,
    Refusal,
    Request,
    RequestInvalid,
)
from faregate.points.domain.conversion import LessThanOneBlock, PartnerUnknown
from faregate.travel.contracts.redemptions import MembersUnavailable, Traveller

TIMEOUT_S: Final = 5.0
RETRY_AFTER_S: Final = 2
_MEMBER_ID: Final = re.compile(r"mbr_[0-9A-Z]{26}")
_NEVER_DONE: Final = {error.slug(): error for error in (PartnerUnknown, LessThanOneBlock, RequestInvalid)}
_log = structlog.get_logger(__name__)


class LedgerUnavailable(UnavailableError):
    """The points ledger cannot be asked at present. What it was asked for is asked again under the same key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartSession:
    """Connections to our other processes, and the API key that they know us by."""

    session: aiohttp.ClientSession
    key: str

    async def ask(self, method: str, url: URL, body: Mapping[str, Any] | None = None) -> HttpAnswer | None:
        """Return the answer, None if there was none or one that says nothing about what was asked."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        sent = await exchange(
            self.session,
            method,
            url,
            timeout_s=TIMEOUT_S,
            headers=headers,
            body=None if body is None else orjson.dumps(body),
        )
        if not isinstance(sent, HttpAnswer):
            _log.warning("apart.unanswered", url=str(url), reason=sent.reason)
            return None
        if sent.status in (401, 403, 405, 429) or sent.status >= 500:
            _log.warning("apart.refused", url=str(url), status=sent.status)
            return None
        return sent


class LedgerOverHttp:
    """The ledger as `PointsApi` is. Keys must begin with the name of the client whose API key is used."""

    def __init__(self, apart: ApartSession, *, base_url: str, client: str) -> None:
        self._apart = apart
        self._url = URL(base_url) / "api/points/operations/batch"
        self._prefix = f"{client}:"

    async def submit(self, request: Request) -> Answer:
        """Carry out an operation. Raises LedgerUnavailable or RequestInvalid."""
        details = {name: value for name, value in request.details().items() if name not in ("key", "by")}
        given = {
            name: getattr(request, name) for name in request.columns - {"key", "by"} if hasattr(request, name)
        }
        return await self._ask(request.key, {"kind": request.kind.value, **given, **details})

    async def convert(self, *, key: str, by: str, member_id: str, amount: int, partner: str) -> Answer:  # noqa: ARG002
        """Turn points into a partner's units. Raises PartnerUnknown, LessThanOneBlock or LedgerUnavailable."""
        form = {"kind": "convert", "member_id": member_id, "amount": amount, "partner": partner}
        return await self._ask(key, form)

    async def _ask(self, key: str, form: Mapping[str, Any]) -> Answer:
        own = key.removeprefix(self._prefix)
        said = await self._apart.ask(
            "POST", self._url, {"operations": [{"key": own, "operation": dict(form)}]}
        )
        if said is None:
            raise LedgerUnavailable(
                "the points ledger cannot be asked at present", retry_after_s=RETRY_AFTER_S
            )
        try:
            body = orjson.loads(said.body)
            if said.status == 200:
                [result] = body["results"]
                if result["key"] != own:
                    raise ValueError("an answer to another key")
                return _answer(key, result)
            refused = _NEVER_DONE[body["type"].rpartition("/")[2]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerUnavailable(
                f"the points ledger's answer ({said.status}) is not understood", retry_after_s=RETRY_AFTER_S
            ) from error
        raise refused(str(body.get("detail", "")))


class TravellersOverHttp:
    """Members as travel asks about them, from their own process."""

    def __init__(self, apart: ApartSession, *, base_url: str) -> None:
        self._apart = apart
        self._base = URL(base_url) / "api/members"

    async def traveller(self, member_id: str) -> Traveller | None:
        """Return in whose name an active member travels. Raises MembersUnavailable."""
        if not _MEMBER_ID.fullmatch(member_id):
            return None
        said = await self._apart.ask("GET", self._base / member_id)
        if said is None:
            raise MembersUnavailable("members cannot be asked at present", retry_after_s=RETRY_AFTER_S)
        try:
            body = orjson.loads(said.body)
            if said.status == 404 and body["type"].endswith("/member-not-found"):
                return None
            profile = body["profile"]
            if body["status"] != "active" or not profile["name"]:
                return None
            born = profile["date_of_birth"]
            return Traveller(name=profile["name"], date_of_birth=date.fromisoformat(born) if born else None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MembersUnavailable(
                f"the answer about a member ({said.status}) is not understood", retry_after_s=RETRY_AFTER_S
            ) from error


def _answer(key: str, result: Mapping[str, Any]) -> Answer:
    if result["key_reused"] is not None:
        return KeyReused(key=key, field=result["key_reused"])
    done = result["operation"]
    balance = done["balance"]
    return Operation(
        no=done["operation"],
        key=key,
        kind=OperationKind(done["kind"]),
        member_id=done["member_id"],
        amount=done["amount"],
        at=datetime.fromisoformat(done["at"]),
        refusal=None if done["refusal"] is None else Refusal(done["refusal"]),
        balance=None
        if balance is None
        else Balance(**{name: balance[name] for name in ("posted", "pending", "held", "owed")}),
        subject=done["subject"],
        gives=done["gives"],
    )
