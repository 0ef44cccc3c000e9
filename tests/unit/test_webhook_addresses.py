"""Which URLs may be subscribed and which addresses connected to: tables of what must be refused."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.webhooks.domain.addresses import AddressRules, EndpointUrlRefused, is_public

PUBLIC = AddressRules()
HERE = AddressRules(loopback=True)

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1",
    "127.255.255.254", "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "::7f00:1", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::1",
    "2002:a00:1::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "ff0e::1", "5f00::1",
]  # fmt: skip
PUBLIC_ADDRESSES = (
    "1.1.1.1 8.8.8.8 93.184.215.14 172.32.0.1 2606:4700::1111 2a00:1450:4001::8a 2001:4860:4860::8888"
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_only_a_network_of_ours_can_reach_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES.split())
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_an_ipv6_address_that_carries_an_ipv4_one_is_never_public(inner: int, rest: int) -> None:
    compatible, mapped = inner, 0xFFFF << 32 | inner
    nat64, teredo = 0x64FF9B << 96 | inner, 0x20010000 << 96 | rest
    sixtofour = 0x2002 << 112 | inner << 80 | rest
    for number in (compatible, mapped, nat64, teredo, sixtofour):
        assert not is_public(ip_address(number.to_bytes(16)))


REFUSED = [
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "//hooks.example.com/",
    "hooks.example.com",
    "https://",
    "https:///path",
    "https://hooks.example.com:80/",
    "https://hooks.example.com:22/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:99999/",
    "https://hooks.example.com:x/",
    "https://user@hooks.example.com/",
    "https://user:secret@hooks.example.com/",
    "https://hooks.example.com/#part",
    "https://hooks.example.com\\@127.0.0.1/",
    "https://hooks.example.com/\n",
    "https://höoks.example.com/",
    "https://hooks..example.com/",
    "https://-hooks.example.com/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://127.0.0.0x1/",
    "https://127.0.0.1./",
    "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1:443/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00:ec2::254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://" + "a" * 2048 + ".com/",
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_could_lead_elsewhere_than_the_internet_is_not_subscribed(url: str) -> None:
    with pytest.raises(EndpointUrlRefused):
        PUBLIC.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com:8443/a/b?c=d",
        "https://xn--hks-0qa.example.com/",
        "https://93.184.215.14/",
        "https://[2606:4700::1111]:443/hook",
    ],
)
def test_an_https_url_of_a_public_host_is_subscribed(url: str) -> None:
    assert PUBLIC.check_url(url) == url


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://localhost:8000/x", "http://[::1]:80/"])
def test_plain_http_is_for_this_machine_and_only_when_a_setting_says_so(url: str) -> None:
    assert HERE.check_url(url) == url
    with pytest.raises(EndpointUrlRefused):
        PUBLIC.check_url(url)


@pytest.mark.parametrize("url", ["http://hooks.example.com/", "http://10.0.0.1/", "https://192.168.0.1/"])
def test_the_setting_for_this_machine_opens_no_other_one(url: str) -> None:
    with pytest.raises(EndpointUrlRefused):
        HERE.check_url(url)
