"""Who members are: each field is encrypted by itself and bound to its member, who is found by a keyed hash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date

import orjson

from faregate.infra.database import Database
from faregate.infra.security.blind_index import BlindDigest, BlindIndex, Email
from faregate.infra.security.encryption import FieldCipher
from faregate.members.contracts import Cabin, Channel, Meal, Preferences, Profile, ProfileField, Seat
from faregate.members.store import members as store
from faregate.members.store.members import SEALED_FIELDS, SealedMember

_PAGE = 200
_PREFERENCES = "preferences"


@dataclass(frozen=True, kw_only=True)
class MemberVault:
    """Encrypts, decrypts and finds members."""

    cipher: FieldCipher
    index: BlindIndex

    def seal_profile(self, member_id: str, profile: Profile) -> Mapping[str, bytes | None]:
        """Encrypt each field of a profile that there is, by name."""
        born = profile.date_of_birth
        plain = {
            ProfileField.NAME: profile.name,
            ProfileField.EMAIL: profile.email,
            ProfileField.PHONE: profile.phone,
            ProfileField.DATE_OF_BIRTH: None if born is None else born.isoformat(),
        }
        return {name.value: self._seal(member_id, name, value) for name, value in plain.items()}

    def open_profile(self, member_id: str, sealed: SealedMember) -> Profile:
        """Decrypt a profile; what is not there, or was erased, is None."""
        born = self._open(member_id, ProfileField.DATE_OF_BIRTH, sealed.date_of_birth)
        return Profile(
            name=self._open(member_id, ProfileField.NAME, sealed.name),
            email=self._open(member_id, ProfileField.EMAIL, sealed.email),
            phone=self._open(member_id, ProfileField.PHONE, sealed.phone),
            date_of_birth=None if born is None else date.fromisoformat(born),
        )

    def seal_preferences(self, member_id: str, preferences: Preferences) -> bytes:
        """Encrypt preferences as one document: what somebody eats may tell what they believe."""
        return self.cipher.encrypt(
            orjson.dumps(asdict(preferences)).decode(), record_id=member_id, field=_field(_PREFERENCES)
        )

    def open_preferences(self, member_id: str, sealed: bytes | None) -> Preferences:
        """Decrypt preferences; none were told, or they were erased: all of them are open."""
        text = self._open(member_id, _PREFERENCES, sealed)
        if text is None:
            return Preferences()
        found = orjson.loads(text)
        return Preferences(
            language=found["language"],
            seat=found["seat"] and Seat(found["seat"]),
            meal=found["meal"] and Meal(found["meal"]),
            cabin=found["cabin"] and Cabin(found["cabin"]),
            hotel_chains=tuple(found["hotel_chains"]),
            channels=tuple(Channel(channel) for channel in found["channels"]),
        )

    def email_digest(self, address: str | None) -> BlindDigest | None:
        """Return the keyed hash to store for an address."""
        return None if address is None else self.index.digest(Email(address))

    def email_candidates(self, address: str) -> tuple[BlindDigest, ...]:
        """Return the keyed hashes to look for: one for each key, the current one first."""
        return self.index.candidates(Email(address))

    def reseal(self, member_id: str, field: str, sealed: bytes) -> bytes:
        """Return a field under the current key; unchanged if it is already."""
        return self.cipher.reencrypt(sealed, record_id=member_id, field=_field(field))

    def _seal(self, member_id: str, field: str, value: str | None) -> bytes | None:
        if value is None:
            return None
        return self.cipher.encrypt(value, record_id=member_id, field=_field(field))

    def _open(self, member_id: str, field: str, sealed: bytes | None) -> str | None:
        if sealed is None:
            return None
        return self.cipher.decrypt(sealed, record_id=member_id, field=_field(field))


def _field(name: str) -> str:
    return f"members.member.{name}"


async def rotate_members(
    database: Database, *, vault: MemberVault, on_progress: Callable[[int], None]
) -> int:
    """Re-encrypt every personal field under the current key, page by page; return how many members changed.

    It can be stopped and begun again at any time: what is under the current key is left alone.
    """
    changed, after_id = 0, ""
    while True:
        async with database.transaction() as conn:
            page = await store.sealed_after(conn, after_id=after_id, limit=_PAGE)
            for member_id, sealed in page:
                now_sealed = _resealed(vault, member_id, sealed)
                if now_sealed != sealed:
                    await store.reseal(conn, member_id, now_sealed)
                    changed += 1
        if not page:
            return changed
        after_id = page[-1][0]
        on_progress(changed)


def _resealed(vault: MemberVault, member_id: str, sealed: SealedMember) -> SealedMember:
    fields = {name: getattr(sealed, name) for name in SEALED_FIELDS}
    return SealedMember(
        **{name: value and vault.reseal(member_id, name, value) for name, value in fields.items()}
    )
