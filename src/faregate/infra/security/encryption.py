"""AES-256-GCM encryption of single fields. A ciphertext names its key and is bound to one record and field.

A random 96-bit nonce is safe for 2^32 values a key (NIST SP 800-38D); rotate before that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from faregate.infra.security.keys import KeyRing, KeySet, Random
from faregate.kernel.errors import UnavailableError

_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16


class CiphertextMalformed(UnavailableError):
    """The stored bytes are not a ciphertext of ours, or were cut short."""


class CiphertextRejected(UnavailableError):
    """The ciphertext was changed, or stands in another record or field than it was made for."""


class EncryptionKeyUnknown(UnavailableError):
    """The ciphertext was made with a key that is not in the key ring. Add the key back to read it."""


class _Opened(NamedTuple):
    """A key set with its ciphers made ready."""

    keys: KeySet
    ciphers: Mapping[str, AESGCM]


class FieldCipher:
    """Encrypts and decrypts text fields with a ring of keys.

    When the ring follows a key file, keys rotate under running processes: each encrypts with the new key within
    a second, and looks at once when it meets a value under a key that it does not know.

    Layout: version (1 byte), length of key id (1), key id, nonce (12), AES-GCM ciphertext with tag.
    """

    def __init__(self, *, ring: KeyRing, random: Random = os.urandom) -> None:
        self._ring = ring
        self._random = random
        self._opened = _opened(ring.newest())

    def encrypt(self, plaintext: str, *, record_id: str, field: str) -> bytes:
        """Encrypt text with the current key, bound to the record and field."""
        keys, ciphers = self._open(self._ring.newest())
        header = bytes((_VERSION, len(keys.current))) + keys.current.encode()
        nonce = self._random(_NONCE_BYTES)
        bound_to = _associated_data(header, record_id, field)
        return header + nonce + ciphers[keys.current].encrypt(nonce, plaintext.encode(), bound_to)

    def decrypt(self, ciphertext: bytes, *, record_id: str, field: str) -> str:
        """Return the text. Raises CiphertextMalformed, EncryptionKeyUnknown or CiphertextRejected."""
        key_id = key_id_of(ciphertext)
        cipher = self._cipher(key_id)
        header, rest = ciphertext[: 2 + len(key_id)], ciphertext[2 + len(key_id) :]
        nonce, sealed = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        try:
            plaintext = cipher.decrypt(nonce, sealed, _associated_data(header, record_id, field))
        except InvalidTag as error:
            raise CiphertextRejected("a stored value does not belong here", field=field) from error
        return plaintext.decode()

    def reencrypt(self, ciphertext: bytes, *, record_id: str, field: str) -> bytes:
        """Return the value under the current key; one that is already under it comes back as it is."""
        plaintext = self.decrypt(ciphertext, record_id=record_id, field=field)
        if key_id_of(ciphertext) == self._ring.newest().current:
            return ciphertext
        return self.encrypt(plaintext, record_id=record_id, field=field)

    def _cipher(self, key_id: str) -> AESGCM:
        cipher = self._open(self._ring.newest()).ciphers.get(key_id)
        cipher = cipher or self._open(self._ring.look()).ciphers.get(key_id)
        if cipher is None:
            raise EncryptionKeyUnknown("the key of a stored value is not in the key ring", key_id=key_id)
        return cipher

    def _open(self, keys: KeySet) -> _Opened:
        opened = self._opened
        if opened.keys is not keys:
            self._opened = opened = _opened(keys)
        return opened


def _opened(keys: KeySet) -> _Opened:
    return _Opened(keys, {key_id: AESGCM(key) for key_id, key in keys.keys.items()})


def key_id_of(ciphertext: bytes) -> str:
    """Return the id of the key that a ciphertext was made with, or raise CiphertextMalformed."""
    id_length = ciphertext[1] if len(ciphertext) > 1 else 0
    key_id = ciphertext[2 : 2 + id_length]
    too_short = len(ciphertext) < 2 + id_length + _NONCE_BYTES + _TAG_BYTES
    if too_short or ciphertext[0] != _VERSION or not key_id.isascii():
        raise CiphertextMalformed("a stored value is not a ciphertext")
    return key_id.decode("ascii")


def _associated_data(header: bytes, record_id: str, field: str) -> bytes:
    # Lengths go in front, so that ("ab", "c") and ("a", "bc") stay different.
    record, name = record_id.encode(), field.encode()
    return header + len(record).to_bytes(4) + record + len(name).to_bytes(4) + name
