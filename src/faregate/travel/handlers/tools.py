"""Time and randomness as the handlers get them, the stamp of events, and the encryption of travellers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import orjson

from faregate.events.base import PublishedEvent
from faregate.infra.security.encryption import FieldCipher
from faregate.kernel.clock import Clock
from faregate.kernel.event import NewEvent
from faregate.kernel.ids import RANDOM_BYTES, prefixed_id, uuid7
from faregate.travel.contracts.redemptions import Traveller

_TRAVELLER_FIELD = "travel.traveller"
_ANSWER_FIELD = "travel.answer"
_ACCOUNT_FIELD = "travel.account"


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The clock, the source of random bytes, and the cipher of personal fields."""

    clock: Clock
    random_bytes: Callable[[int], bytes]
    cipher: FieldCipher

    def new_id(self, prefix: str) -> str:
        """Return a new id that sorts by time, such as `rdm_01J…`."""
        return prefixed_id(prefix, now=self.clock.now(), random=self.random_bytes(RANDOM_BYTES))

    def stamp(self, event: PublishedEvent, *, now: datetime, traceparent: str | None) -> NewEvent:
        """Give a published event its id and time."""
        event_id = uuid7(now=now, random=self.random_bytes(RANDOM_BYTES))
        return event.to_event(id=event_id, time=now, traceparent=traceparent)

    def seal(self, redemption_id: str, traveller: Traveller) -> bytes:
        """Encrypt in whose name is booked, bound to the redemption."""
        born = traveller.date_of_birth
        plain = orjson.dumps([traveller.name, born.isoformat() if born else None]).decode()
        return self.cipher.encrypt(plain, record_id=redemption_id, field=_TRAVELLER_FIELD)

    def open(self, redemption_id: str, sealed: bytes) -> Traveller:
        """Decrypt in whose name is booked."""
        name, born = orjson.loads(
            self.cipher.decrypt(sealed, record_id=redemption_id, field=_TRAVELLER_FIELD)
        )
        return Traveller(name=name, date_of_birth=date.fromisoformat(born) if born else None)

    def seal_account(self, transfer_id: str, account: str) -> bytes:
        """Encrypt a member's account at a partner, bound to the transfer."""
        return self.cipher.encrypt(account, record_id=transfer_id, field=_ACCOUNT_FIELD)

    def open_account(self, transfer_id: str, sealed: bytes) -> str:
        """Decrypt a member's account at a partner."""
        return self.cipher.decrypt(sealed, record_id=transfer_id, field=_ACCOUNT_FIELD)

    def reseal_account(self, transfer_id: str, sealed: bytes) -> bytes:
        """Return an account under the current key; unchanged if it is already."""
        return self.cipher.reencrypt(sealed, record_id=transfer_id, field=_ACCOUNT_FIELD)

    def reseal(self, redemption_id: str, sealed: bytes) -> bytes:
        """Return a traveller under the current key; unchanged if it is already."""
        return self.cipher.reencrypt(sealed, record_id=redemption_id, field=_TRAVELLER_FIELD)

    def reseal_answer(self, provider_request_id: str, sealed: bytes) -> bytes:
        """Return a raw answer under the current key; unchanged if it is already."""
        return self.cipher.reencrypt(sealed, record_id=provider_request_id, field=_ANSWER_FIELD)

    def seal_answer(self, provider_request_id: str, raw: bytes) -> bytes:
        """Encrypt a partner's raw answer, whatever bytes it is made of, bound to its request."""
        text = base64.b64encode(raw).decode()
        return self.cipher.encrypt(text, record_id=provider_request_id, field=_ANSWER_FIELD)
