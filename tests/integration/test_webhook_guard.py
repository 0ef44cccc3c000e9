"""The guard against requests into our own network: what is connected to is what was checked."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from faregate.webhooks.domain.addresses import Address, AddressRules
from tests.webhook_world import (  # noqa: F401
    Endpoint,
    Hooks,
    decided,
    looking_up,
    open_endpoint,
    open_receiver,
    webhooks_and_sender,
)

INNER = "127.0.0.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Only(AddressRules):
    """As if one address of this machine were the internet, and the rest of it our own network."""

    address: str = "127.0.0.1"

    def allows(self, address: Address) -> bool:
        return address == ip_address(self.address)

    def check_url(self, url: str) -> str:
        return url


async def attempted(
    hooks: Hooks, url: str, *, names: Mapping[str, Sequence[str]] | None = None
) -> str | None:
    """Deliver to a URL that got past its check and return the error that was recorded."""
    async with hooks.api.database.connection() as conn:
        await conn.execute("update webhooks.endpoint set url = %s", (url,))
    sender = await hooks.new_sender(rules=Only(), look_up=looking_up(names) if names else None)
    await hooks.announce(decided())
    await sender.claim()
    await sender.settled()
    [endpoint] = await hooks.api.endpoints(client_id="acme")
    [delivery] = await hooks.api.deliveries(endpoint.id, client_id="acme")
    return delivery.last_error


def _port(endpoint: Endpoint) -> str:
    return endpoint.url.rpartition(":")[2].partition("/")[0]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.2",
        "127.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "0x7f.2",
        "[::1]",
        "[::ffff:127.0.0.2]",
        "0.0.0.0",
    ],
)
async def test_an_address_that_is_not_allowed_is_not_connected_to_however_it_is_written(
    hooks: Hooks, receiver: Endpoint, host: str
) -> None:
    async with open_endpoint(host="0.0.0.0") as everywhere:
        await hooks.subscribe(receiver)
        assert await attempted(hooks, f"http://{host}:{_port(everywhere)}/") in {
            "address_refused",
            "no_answer",
        }
        assert everywhere.connections == set()


async def test_a_name_that_leads_inside_is_refused(hooks: Hooks, receiver: Endpoint) -> None:
    async with open_endpoint(host=INNER) as inner:
        await hooks.subscribe(receiver)
        url = f"http://evil.example.com:{_port(inner)}/"
        assert await attempted(hooks, url, names={"evil.example.com": [INNER]}) == "address_refused"
        assert inner.connections == set()


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1", INNER], [INNER, "127.0.0.1"], ["127.0.0.1", "::ffff:10.0.0.1"]]
)
async def test_a_name_with_two_addresses_is_refused_when_one_of_them_is(
    hooks: Hooks, receiver: Endpoint, addresses: list[str]
) -> None:
    await hooks.subscribe(receiver)
    url = f"http://both.example.com:{_port(receiver)}/"
    assert await attempted(hooks, url, names={"both.example.com": addresses}) == "address_refused"
    assert receiver.connections == set()


async def test_a_name_that_changes_its_address_after_the_check_gains_nothing(
    hooks: Hooks, receiver: Endpoint
) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else [INNER]

    port = int(_port(receiver))
    sender = await hooks.new_sender(rules=Only(), look_up=rebinding)
    async with open_endpoint(host=INNER, port=port) as inner:
        await hooks.subscribe(receiver)
        async with hooks.api.database.connection() as conn:
            await conn.execute("update webhooks.endpoint set url = %s", (f"http://re.example.com:{port}/",))
        await hooks.announce(decided())
        await sender.claim()
        await sender.settled()
        assert (len(receiver.arrivals), len(asked)) == (1, 1), (
            "resolved once, and connected to what was checked"
        )
        receiver.headers = {"Connection": "close"}
        for transport in receiver.connections:
            transport.close()
        await hooks.announce(decided())
        await sender.claim()
        await sender.settled()
        assert inner.connections == set()
    assert len(receiver.arrivals) == 1


async def test_https_is_verified_against_the_name_that_was_subscribed(hooks: Hooks, tmp_path: Path) -> None:
    server, client = _certificate(tmp_path, "hooks.example.com")
    async with open_endpoint(tls=server) as secure:
        port = _port(secure)
        names = {"hooks.example.com": ["127.0.0.1"], "other.example.com": ["127.0.0.1"]}
        for name, error in (("hooks.example.com", None), ("other.example.com", "tls_failed")):
            subscribed = await hooks.subscribe("http://127.0.0.1:1/", client=name)
            async with hooks.api.database.connection() as conn:
                query = "update webhooks.endpoint set url = %s where id = %s"
                await conn.execute(query, (f"https://{name}:{port}/", subscribed.endpoint.id))
            sender = await hooks.new_sender(look_up=looking_up(names), tls=client)
            await hooks.announce(decided(client=name))
            await sender.claim()
            await sender.settled()
            assert (await hooks.only_delivery(subscribed)).last_error == error


async def test_a_certificate_that_nobody_vouches_for_is_refused(hooks: Hooks, tmp_path: Path) -> None:
    server, _ = _certificate(tmp_path, "hooks.example.com")
    async with open_endpoint(tls=server) as secure:
        subscribed = await hooks.subscribe(secure.url)
        await hooks.announce(decided())
        await hooks.deliver()
        assert (await hooks.only_delivery(subscribed)).last_error == "tls_failed"
        assert secure.arrivals == []


async def test_neither_cookies_nor_a_proxy_of_ours_go_along(
    hooks: Hooks, receiver: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await hooks.subscribe(receiver)
    receiver.headers = {"Set-Cookie": "a=b; Path=/"}
    for _ in range(2):
        await hooks.announce(decided())
        await hooks.deliver()
    assert [arrival.headers.get("cookie") for arrival in receiver.arrivals] == [None, None]


def _certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a self-signed certificate; return the server's context and that of a client that trusts it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))
