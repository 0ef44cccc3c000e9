"""Addresses have pseudonyms: the same one however they are written, another one under another key."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.security.keys import KeyRing, KeySet
from faregate.infra.security.pseudonym import AddressInvalid, Pseudonyms


def pseudonyms(key: bytes = b"k" * 32) -> Pseudonyms:
    return Pseudonyms(ring=KeyRing.fixed(KeySet(current="k1", keys={"k1": key})))


OURS = pseudonyms()


@pytest.mark.requirement("F14")
@given(address=st.ip_addresses())
def test_a_pseudonym_shows_nothing_of_the_address_and_is_always_the_same(
    address: IPv4Address | IPv6Address,
) -> None:
    said = OURS.address(str(address))
    assert re.fullmatch("ip_[0-9a-f]{24}", said)
    assert said == OURS.address(str(address))
    assert said != pseudonyms(b"x" * 32).address(str(address))


@given(one=st.ip_addresses(v=4), other=st.ip_addresses(v=4))
def test_two_ipv4_addresses_have_two_pseudonyms(one: IPv4Address, other: IPv4Address) -> None:
    assert (OURS.address(str(one)) == OURS.address(str(other))) == (one == other)


@given(one=st.ip_addresses(v=6), host=st.integers(0, 2**64 - 1))
def test_an_ipv6_address_stands_for_its_network_however_it_is_written(one: IPv6Address, host: int) -> None:
    neighbour = IPv6Address(int(one) >> 64 << 64 | host)
    if one.ipv4_mapped or neighbour.ipv4_mapped:
        return
    assert OURS.address(one.exploded.upper()) == OURS.address(neighbour.compressed)


def test_an_ipv4_address_that_is_written_as_ipv6_is_the_same() -> None:
    assert OURS.address("::ffff:192.0.2.1") == OURS.address("192.0.2.1")
    assert OURS.address("fe80::1%eth0") == OURS.address("fe80::2")


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "192.0.2.256", "192.0.2.1/24", " 192.0.2.1", "192.0.2.01", "::1::", "1" * 10_000],
)
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(AddressInvalid) as refused:
        OURS.address(text)
    assert not text or text not in refused.value.detail


def test_a_new_key_gives_new_pseudonyms() -> None:
    old, both = {"k1": b"k" * 32}, {"k1": b"k" * 32, "k2": b"n" * 32}
    rotated = Pseudonyms(ring=KeyRing.fixed(KeySet(current="k2", keys=both)))
    assert rotated.address("192.0.2.1") != Pseudonyms(
        ring=KeyRing.fixed(KeySet(current="k1", keys=old))
    ).address("192.0.2.1")
