"""Finds a person or a card again without storing which: a keyed hash (HMAC-SHA256) of what is looked for.

Without the key the digest says nothing, although birth dates and card numbers could be guessed one by one.
The key id stands beside each digest, so that the key can rotate and old rows are still found.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass, field
from datetime import date

from faregate.infra.security.canonical import canonical_json
from faregate.infra.security.keys import KeyRing, KeySet

_LABEL = "faregate/identity/1"
_EMAIL_LABEL = "faregate/email/1"
_CARD_LABEL = "faregate/card/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells one applicant from another. Its repr shows nothing."""

    legal_name: str = field(repr=False)
    dob: date = field(repr=False)
    ssn_last4: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail address by which a person is found. Its repr shows nothing."""

    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CardNumber:
    """The number by which a card is found. Its repr shows nothing."""

    digits: str = field(repr=False)


Findable = Identity | Email | CardNumber


@dataclass(frozen=True, slots=True)
class BlindDigest:
    """32 bytes that stand for an identity, an address or a card number under one key."""

    key_id: str
    digest: bytes


class BlindIndex:
    """Computes the digests of what is looked for under a ring of keys.

    When the ring follows a key file, a rotation reaches each process within a second. Until it has reached all
    of them, one that knows only the old key does not find people who are new under the new one.
    """

    def __init__(self, *, ring: KeyRing) -> None:
        self._ring = ring

    def digest(self, wanted: Findable) -> BlindDigest:
        """Return the digest under the current key: the one to store."""
        keys = self._ring.newest()
        return _digest(keys, keys.current, _normal_form(wanted))

    def candidates(self, wanted: Findable) -> tuple[BlindDigest, ...]:
        """Return the digests under every key, the current one first: the ones to look for."""
        keys, message = self._ring.newest(), _normal_form(wanted)
        key_ids = [keys.current, *(key_id for key_id in keys.keys if key_id != keys.current)]
        return tuple(_digest(keys, key_id, message) for key_id in key_ids)


def normalise_name(name: str) -> str:
    """Return the name without differences of case, width, composition or spacing."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())


def _normal_form(wanted: Findable) -> bytes:
    if isinstance(wanted, CardNumber):
        return canonical_json([_CARD_LABEL, wanted.digits])
    if isinstance(wanted, Email):
        return canonical_json([_EMAIL_LABEL, normalise_name(wanted.address)])
    name = normalise_name(wanted.legal_name)
    return canonical_json([_LABEL, name, wanted.dob.isoformat(), wanted.ssn_last4.strip()])


def _digest(keys: KeySet, key_id: str, message: bytes) -> BlindDigest:
    return BlindDigest(key_id, hmac.digest(keys.keys[key_id], message, hashlib.sha256))
