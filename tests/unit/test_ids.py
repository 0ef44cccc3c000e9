"""Identifiers sort by time, name their kind and follow the published formats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.kernel.ids import prefixed_id, ulid, uuid7

NOW = datetime(2026, 4, 8, 12, tzinfo=UTC)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

EARLIEST, LATEST = datetime(1971, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - as Hypothesis wants its limits
instants = st.datetimes(min_value=EARLIEST, max_value=LATEST, timezones=st.just(UTC))
randoms = st.binary(min_size=10, max_size=10)


@given(now=instants, random=randoms)
def test_a_ulid_is_its_128_bits_in_crockford_base_32(now: datetime, random: bytes) -> None:
    number = 0
    for character in ulid(now=now, random=random):
        number = number * 32 + _ALPHABET.index(character)
    assert number >> 80 == (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert (number & (1 << 80) - 1).to_bytes(10) == random


@given(now=instants, random=randoms)
def test_ids_sort_by_their_time(now: datetime, random: bytes) -> None:
    later = now + timedelta(milliseconds=1)
    assert prefixed_id("app", now=now, random=random) < prefixed_id("app", now=later, random=b"\0" * 10)
    assert uuid7(now=now, random=random).int < uuid7(now=later, random=b"\0" * 10).int


@given(now=instants, random=randoms)
def test_a_uuid7_has_its_version_and_variant(now: datetime, random: bytes) -> None:
    made = uuid7(now=now, random=random)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_an_id_names_its_kind() -> None:
    assert prefixed_id("app", now=NOW, random=bytes(10)).startswith("app_0")


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        ulid(now=NOW, random=b"short")
