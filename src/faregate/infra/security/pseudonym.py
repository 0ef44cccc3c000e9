"""Stands in for an address of the internet wherever one is kept or passed on: the same address, the same pseudonym.

It is a keyed hash (HMAC-SHA256): without the key nobody can try all addresses out. When the key rotates, every address
gets another pseudonym: what was counted under the old one is not found any more, and ends with its window.
"""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import IPv6Address, ip_address, ip_network

from faregate.infra.security.keys import KeyRing
from faregate.kernel.errors import InvalidError

_LABEL = b"faregate/address/1\0"
_IPV6_NETWORK_BITS = 64
"""A household or a phone has a network of this size: it picks its address in it as it likes."""
_HEX_DIGITS = 24
_TEXT_MAX = 45
"""The longest way to write an address."""


class AddressInvalid(InvalidError):
    """Something is no IPv4 or IPv6 address."""


class Pseudonyms:
    """Computes pseudonyms under the current key of a ring, that of the blind index."""

    def __init__(self, *, ring: KeyRing) -> None:
        self._ring = ring

    def address(self, ip: str) -> str:
        """Return `ip_` and 24 hexadecimal digits for an IPv4 address or the network of an IPv6 one.

        Raises AddressInvalid.
        """
        keys = self._ring.newest()
        digest = hmac.digest(keys.keys[keys.current], _LABEL + _normal_form(ip), hashlib.sha256)
        return f"ip_{digest.hex()[:_HEX_DIGITS]}"


def _normal_form(ip: str) -> bytes:
    """Return an IPv4 address, also one written as IPv6, or the IPv6 network without its zone."""
    if len(ip) > _TEXT_MAX:
        raise AddressInvalid("an address is IPv4 or IPv6")
    try:
        address = ip_address(ip)
    except ValueError as error:
        raise AddressInvalid("an address is IPv4 or IPv6") from error
    if not isinstance(address, IPv6Address):
        return address.packed
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return ip_network((int(address), _IPV6_NETWORK_BITS), strict=False).network_address.packed
