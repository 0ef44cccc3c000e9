"""Which URLs may be subscribed, and which addresses may be connected to. Resolving names does not belong here.

Clients choose the URL, so everything that only our own network can reach is refused: else a subscription would be
a way to send requests to our neighbours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from faregate.kernel.errors import InvalidError

URL_LENGTH_MAX = 2048
PORTS = frozenset({443, 8443})
_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(
    r"(?=.{1,253}\.?$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.?"
)
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")

Address = IPv4Address | IPv6Address

# The IANA registry of special-purpose IPv4 addresses, multicast and what lies beyond; and Azure's platform services
# (metadata, DNS), which stand in a public range. Written out: what Python calls global differs by its version.
_IPV4_REFUSED = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    )
)  # fmt: skip
# What is assigned as global unicast (RFC 4291), without the ranges that carry an IPv4 address inside: Teredo and the
# other IETF protocol assignments, 6to4. NAT64 (64:ff9b::/96), IPv4-mapped and the rest are outside of it already.
_IPV6_GLOBAL = IPv6Network("2000::/3")
_IPV6_REFUSED = (
    IPv6Network("2001::/23"),
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),
)


class EndpointUrlRefused(InvalidError):
    """The URL cannot be subscribed: it is not https, or names a host or port that webhooks are not sent to.

    Use an https URL with a public host name, port 443 or 8443, without user name, password and fragment.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRules:
    """What may be connected to. `loopback` is for development: this machine, by http too, on any port."""

    loopback: bool = False

    def allows(self, address: Address) -> bool:
        """Whether a connection to this address may be opened."""
        return is_public(address) or (self.loopback and address.is_loopback)

    def check_url(self, url: str) -> str:
        """Return the URL if it may be subscribed; raise EndpointUrlRefused with what is wrong."""
        parts = _split(url)
        host = _host(parts)
        address = _literal(host)
        is_ours = self.loopback and (host == "localhost" or (address is not None and address.is_loopback))
        if parts.scheme != "https" and not (is_ours and parts.scheme == "http"):
            raise EndpointUrlRefused("the URL must begin with https://")
        if not is_ours and (443 if parts.port is None else parts.port) not in PORTS:
            raise EndpointUrlRefused(f"the port must be one of {', '.join(map(str, sorted(PORTS)))}")
        if address is not None and not self.allows(address):
            raise EndpointUrlRefused("the address is not a public one")
        return url


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet and cannot lead anywhere else."""
    if isinstance(address, IPv6Address):
        return address in _IPV6_GLOBAL and not any(address in network for network in _IPV6_REFUSED)
    return not any(address in network for network in _IPV4_REFUSED)


def _split(url: str) -> SplitResult:
    if len(url) > URL_LENGTH_MAX or not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise EndpointUrlRefused(
            f"a URL is 1 to {URL_LENGTH_MAX} printable ASCII characters, without backslash"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise EndpointUrlRefused("this is no URL") from error
    if "@" in parts.netloc or "#" in url:
        raise EndpointUrlRefused("the URL must have no user name, password or fragment")
    return parts


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    if not host or "%" in host or not (":" in host or _NAME.fullmatch(host)):
        raise EndpointUrlRefused("the URL has no valid host name")
    return host


def _literal(host: str) -> Address | None:
    """Return the address that a host is written as, None for a name.

    A host whose last label is a number is an address to every resolver (`127.1`, `0x7f000001`, `017700000001`);
    only the usual form of four decimal numbers is taken.
    """
    try:
        return ip_address(host)
    except ValueError:
        if ":" in host or _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise EndpointUrlRefused("the address is not written in its usual form") from None
        return None
