"""The blind index: one person is one digest, however they write their name, and under every key."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.security.blind_index import BlindIndex, Identity, normalise_name
from faregate.infra.security.keys import KeyRing, KeySet, rotate_key

_OLD, _NEW = os.urandom(32), os.urandom(32)
BEFORE = BlindIndex(ring=KeyRing.fixed(KeySet(current="k1", keys={"k1": _OLD})))
AFTER = BlindIndex(ring=KeyRing.fixed(KeySet(current="k2", keys={"k1": _OLD, "k2": _NEW})))


def identity(legal_name: str = "Jane Q. Doe", dob: str = "1980-01-02", ssn_last4: str = "6789") -> Identity:
    return Identity(legal_name=legal_name, dob=date.fromisoformat(dob), ssn_last4=ssn_last4)


@pytest.mark.parametrize(
    "spelling", ["JANE Q. DOE", "  Jane\tQ.   Doe ", "\uff2aane Q. Doe", "Jane\u00a0Q. Doe", "Jane Q. Doe"]
)
def test_spellings_of_one_name_are_one_person(spelling: str) -> None:
    assert BEFORE.digest(identity(spelling)) == BEFORE.digest(identity())


def test_composed_and_decomposed_letters_are_one_name() -> None:
    assert BEFORE.digest(identity("Zoe\u0308 Stra\u00dfe")) == BEFORE.digest(identity("ZO\u00cb STRASSE"))


@pytest.mark.parametrize(
    "other", [identity("Jane Q. Do"), identity(dob="1980-02-01"), identity(ssn_last4="6780")]
)
def test_another_name_birth_date_or_number_is_another_person(other: Identity) -> None:
    assert BEFORE.digest(other) != BEFORE.digest(identity())


@given(st.text())
def test_a_normalised_name_is_its_own_normal_form(name: str) -> None:
    assert normalise_name(normalise_name(name)) == normalise_name(name)


@pytest.mark.requirement("P3")
def test_after_rotation_the_old_digest_is_still_among_the_candidates() -> None:
    stored = BEFORE.digest(identity())
    assert AFTER.candidates(identity()) == (AFTER.digest(identity()), stored)
    assert AFTER.digest(identity()).key_id == "k2"


@pytest.mark.requirement("P3")
def test_a_running_process_stores_digests_under_the_new_key_a_second_after_the_rotation(
    tmp_path: Path,
) -> None:
    path, seconds = tmp_path / "keys.json", [0.0]
    ring = KeyRing.from_file(path, purpose="blind_index", monotonic=lambda: seconds[-1])
    running = BlindIndex(ring=ring)
    stored = running.digest(identity())
    rotate_key(path, purpose="blind_index")
    seconds.append(1.0)
    assert running.digest(identity()).key_id == "k2"
    assert running.candidates(identity()) == (running.digest(identity()), stored)


def test_an_identity_does_not_show_itself() -> None:
    assert repr(identity()) == "Identity()"
