"""Who applicants are: encrypted at rest, found through keyed hashes, decrypted only on the way to a provider."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import orjson

from faregate.credit.contracts import ApprovedApplicant, Identity
from faregate.credit.store import applications
from faregate.infra.database import Database
from faregate.infra.security import blind_index
from faregate.infra.security.blind_index import BlindIndex
from faregate.infra.security.encryption import FieldCipher

_IDENTITY_FIELD = "credit.application.identity"
_RESPONSE_FIELD = "gateway.intent.response"
_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class IdentityVault:
    """Encrypts and finds applicants. Every ciphertext is bound to its record."""

    cipher: FieldCipher
    index: BlindIndex

    def seal_identity(self, application_id: str, identity: Identity) -> bytes:
        """Encrypt an identity for one application."""
        text = orjson.dumps([identity.legal_name, identity.dob.isoformat(), identity.ssn_last4]).decode()
        return self.cipher.encrypt(text, record_id=application_id, field=_IDENTITY_FIELD)

    def open_identity(self, application_id: str, sealed: bytes) -> Identity:
        """Decrypt the identity of one application."""
        text = self.cipher.decrypt(sealed, record_id=application_id, field=_IDENTITY_FIELD)
        legal_name, dob, ssn_last4 = orjson.loads(text)
        return Identity(legal_name=legal_name, dob=date.fromisoformat(dob), ssn_last4=ssn_last4)

    def seal_response(self, provider_request_id: str, raw: bytes) -> bytes:
        """Encrypt a provider's raw answer, whatever bytes it is made of."""
        text = base64.b64encode(raw).decode()
        return self.cipher.encrypt(text, record_id=provider_request_id, field=_RESPONSE_FIELD)

    def applicant_hash(self, identity: Identity, *, new_id: str) -> applications.ApplicantHash:
        """Return the keyed hashes under which a person is looked for."""
        person = blind_index.Identity(
            legal_name=identity.legal_name, dob=identity.dob, ssn_last4=identity.ssn_last4
        )
        current, *older = self.index.candidates(person)
        return applications.ApplicantHash(
            new_id=new_id,
            key_id=current.key_id,
            digest=current.digest,
            older=tuple((digest.key_id, digest.digest) for digest in older),
        )

    def reseal_identity(self, application_id: str, sealed: bytes) -> bytes:
        """Return the identity under the current key; unchanged if it is already."""
        return self.cipher.reencrypt(sealed, record_id=application_id, field=_IDENTITY_FIELD)

    def reseal_response(self, provider_request_id: str, sealed: bytes) -> bytes:
        """Return a raw answer under the current key; unchanged if it is already."""
        return self.cipher.reencrypt(sealed, record_id=provider_request_id, field=_RESPONSE_FIELD)


async def approved_applicants(
    database: Database, application_ids: Sequence[str], *, vault: IdentityVault
) -> Mapping[str, ApprovedApplicant]:
    """Return who is behind those of the applications that are approved now, by application."""
    async with database.connection() as conn:
        found = await applications.approved_identities(conn, application_ids)
    return {
        application_id: ApprovedApplicant(
            applicant_id=applicant_id, identity=vault.open_identity(application_id, sealed)
        )
        for application_id, applicant_id, sealed in found
    }


async def rotate_identities(
    database: Database, *, vault: IdentityVault, on_progress: Callable[[int], None]
) -> int:
    """Re-encrypt every stored identity under the current key, page by page; return how many changed.

    It can be stopped and begun again at any time: what is under the current key is left alone.
    """
    changed, after_id = 0, ""
    while True:
        async with database.transaction() as conn:
            page = await applications.identities_after(conn, after_id=after_id, limit=_PAGE)
            for application_id, old in page:
                new = vault.reseal_identity(application_id, old)
                if new != old and await applications.replace_identity(conn, application_id, old=old, new=new):
                    changed += 1
        if not page:
            return changed
        after_id = page[-1][0]
        on_progress(changed)
