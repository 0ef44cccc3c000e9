"""The secrets that sign messages: made here, kept sealed, opened only to sign."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from faregate.infra.security.encryption import FieldCipher

SECRET_BYTES = 32
_FIELD = "webhook_secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVault:
    """Makes, seals and opens secrets. `random` returns so many random bytes."""

    cipher: FieldCipher
    random: Callable[[int], bytes]

    def new(self) -> str:
        """Return a new secret in the form of Standard Webhooks: `whsec_` and base64 of 32 random bytes."""
        return "whsec_" + base64.b64encode(self.random(SECRET_BYTES)).decode()

    def seal(self, secret: str, *, secret_id: str) -> bytes:
        """Encrypt a secret for its row."""
        return self.cipher.encrypt(secret, record_id=secret_id, field=_FIELD)

    def open(self, sealed: bytes, *, secret_id: str) -> str:
        """Return the secret of a row."""
        return self.cipher.decrypt(sealed, record_id=secret_id, field=_FIELD)

    def reseal(self, sealed: bytes, *, secret_id: str) -> bytes:
        """Return the row's ciphertext under the current key; the same bytes if it is under it already."""
        return self.cipher.reencrypt(sealed, record_id=secret_id, field=_FIELD)
