"""Field encryption: bound to its place, rotating keys, and every kind of damage named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.security.encryption import (
    CiphertextMalformed,
    CiphertextRejected,
    EncryptionKeyUnknown,
    FieldCipher,
    key_id_of,
)
from faregate.infra.security.keys import KeyRing, KeySet, rotate_key

_OLD, _NEW = os.urandom(32), os.urandom(32)


def cipher(current: str, **keys: bytes) -> FieldCipher:
    return FieldCipher(ring=KeyRing.fixed(KeySet(current=current, keys=keys)))


BEFORE = cipher("k1", k1=_OLD)
AFTER = cipher("k2", k1=_OLD, k2=_NEW)
ONLY_NEW = cipher("k2", k2=_NEW)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(_TEXT, _TEXT, _TEXT)
def test_what_was_encrypted_is_read_in_its_own_place(plaintext: str, record_id: str, field: str) -> None:
    sealed = BEFORE.encrypt(plaintext, record_id=record_id, field=field)
    assert BEFORE.decrypt(sealed, record_id=record_id, field=field) == plaintext


@pytest.mark.requirement("P3")
@pytest.mark.parametrize(
    ("record_id", "field"), [("app_2", "ssn"), ("app_1", "dob"), ("app_1s", "sn"), ("", "app_1ssn")]
)
def test_a_ciphertext_moved_elsewhere_is_rejected(record_id: str, field: str) -> None:
    sealed = BEFORE.encrypt("6789", record_id="app_1", field="ssn")
    with pytest.raises(CiphertextRejected):
        BEFORE.decrypt(sealed, record_id=record_id, field=field)


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(BEFORE.encrypt("Jane Doe", record_id="app_1", field="legal_name"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((CiphertextRejected, CiphertextMalformed, EncryptionKeyUnknown)):
        BEFORE.decrypt(bytes(sealed), record_id="app_1", field="legal_name")


@given(st.binary(max_size=64))
def test_bytes_that_are_no_ciphertext_are_never_a_crash(junk: bytes) -> None:
    with pytest.raises((CiphertextRejected, CiphertextMalformed, EncryptionKeyUnknown)):
        BEFORE.decrypt(junk, record_id="app_1", field="dob")


def test_a_shortened_ciphertext_is_malformed() -> None:
    sealed = BEFORE.encrypt("", record_id="app_1", field="dob")
    with pytest.raises(CiphertextMalformed):
        BEFORE.decrypt(sealed[:-1], record_id="app_1", field="dob")


@pytest.mark.requirement("P3")
def test_rotation_moves_values_to_the_new_key() -> None:
    sealed = BEFORE.encrypt("1980-01-02", record_id="app_1", field="dob")
    moved = AFTER.reencrypt(sealed, record_id="app_1", field="dob")
    assert (key_id_of(sealed), key_id_of(moved)) == ("k1", "k2")
    assert ONLY_NEW.decrypt(moved, record_id="app_1", field="dob") == "1980-01-02"


def test_a_value_under_the_current_key_is_left_as_it_is() -> None:
    sealed = AFTER.encrypt("x", record_id="app_1", field="dob")
    assert AFTER.reencrypt(sealed, record_id="app_1", field="dob") is sealed


def test_a_key_that_is_gone_is_named() -> None:
    sealed = BEFORE.encrypt("x", record_id="app_1", field="dob")
    with pytest.raises(EncryptionKeyUnknown) as refused:
        ONLY_NEW.decrypt(sealed, record_id="app_1", field="dob")
    assert refused.value.facts == {"key_id": "k1"}


def test_the_same_text_twice_gives_different_bytes() -> None:
    once, twice = (BEFORE.encrypt("x", record_id="app_1", field="dob") for _ in range(2))
    assert once != twice


def running_process(path: Path, seconds: list[float]) -> FieldCipher:
    return FieldCipher(ring=KeyRing.from_file(path, purpose="encryption", monotonic=lambda: seconds[-1]))


@pytest.mark.requirement("P3")
def test_a_running_process_encrypts_under_the_new_key_a_second_after_the_rotation(tmp_path: Path) -> None:
    seconds = [0.0]
    running = running_process(tmp_path / "keys.json", seconds)
    before = running.encrypt("x", record_id="r", field="f")
    rotate_key(tmp_path / "keys.json", purpose="encryption")
    seconds.append(1.0)
    after = running.encrypt("x", record_id="r", field="f")
    assert (key_id_of(before), key_id_of(after)) == ("k1", "k2")
    assert running.decrypt(before, record_id="r", field="f") == "x"


@pytest.mark.requirement("P3")
def test_a_running_process_reads_what_another_one_encrypted_under_a_newer_key_at_once(tmp_path: Path) -> None:
    running = running_process(tmp_path / "keys.json", [0.0])
    rotate_key(tmp_path / "keys.json", purpose="encryption")
    by_another = running_process(tmp_path / "keys.json", [0.0]).encrypt("y", record_id="r", field="f")
    assert key_id_of(by_another) == "k2"
    assert running.decrypt(by_another, record_id="r", field="f") == "y"


def test_a_running_process_moves_values_to_the_new_key(tmp_path: Path) -> None:
    seconds = [0.0]
    running = running_process(tmp_path / "keys.json", seconds)
    sealed = running.encrypt("x", record_id="r", field="f")
    rotate_key(tmp_path / "keys.json", purpose="encryption")
    seconds.append(1.0)
    assert key_id_of(running.reencrypt(sealed, record_id="r", field="f")) == "k2"
