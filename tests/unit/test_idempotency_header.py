"""The Idempotency-Key header: quoted or bare, exactly one, 1 to 255 printable characters."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.http.idempotency import (
    IdempotencyKeyMalformed,
    IdempotencyKeyMissing,
    IdempotencyKeyRepeated,
    fingerprint,
    parse_key,
)

_PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
_TOKENS = st.text(string.ascii_letters + string.digits + "-_.:/+=", min_size=1, max_size=255)


def quoted(key: str) -> bytes:
    return b'"' + key.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


@given(_PRINTABLE)
def test_every_printable_key_can_be_sent_quoted(key: str) -> None:
    assert parse_key([quoted(key)]) == key


@pytest.mark.requirement("C6")
@given(_TOKENS)
def test_a_bare_token_is_the_same_key_as_the_quoted_string(key: str) -> None:
    assert parse_key([key.encode()]) == parse_key([quoted(key)]) == key


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_of_1_to_255_printable_characters_or_refused(value: bytes) -> None:
    try:
        key = parse_key([value])
    except IdempotencyKeyMalformed:
        return
    assert 1 <= len(key) <= 255
    assert key.isascii()
    assert key.isprintable()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"01J3R2J7F1TQ0K6W6N8A4X9V7R", "01J3R2J7F1TQ0K6W6N8A4X9V7R"),
        (b'  "abc"\t', "abc"),
        (b'"a b"', "a b"),
        (b'"a\\"b\\\\c"', 'a"b\\c'),
        (b"x" * 255, "x" * 255),
        (b'"' + b'\\"' * 255 + b'"', '"' * 255),
    ],
)
def test_a_good_key_is_read_without_its_quoting(value: bytes, key: str) -> None:
    assert parse_key([value]) == key


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b'""', b'"abc', b'abc"', b'"a"b"', b'"a\\n"', b'"a\\"', b"a b", b"a,b", b"a;b=1", b'"a";b=1',
     b'"a", "b"', b'"\xc3\xa9"', b"\xe9", b'"a\x7f"', b'"a\tb"', b"(a)", b"a\\b",
     b"x" * 256, b'"' + b"x" * 256 + b'"',
     b"x" * 1000],
)  # fmt: skip
def test_a_malformed_key_is_refused_with_a_link_to_the_documentation(value: bytes) -> None:
    with pytest.raises(IdempotencyKeyMalformed) as refused:
        parse_key([value])
    assert refused.value.facts["documentation"].startswith("/problems/")


def test_a_missing_key_is_refused() -> None:
    with pytest.raises(IdempotencyKeyMissing):
        parse_key([])


def test_two_headers_are_refused_even_if_they_agree() -> None:
    with pytest.raises(IdempotencyKeyRepeated):
        parse_key([b"abc", b"abc"])


def test_the_fingerprint_sees_method_route_and_meaning_but_not_spelling() -> None:
    same = fingerprint(method="POST", route="/a", body={"x": 1, "y": [2.0]})
    assert same == fingerprint(method="POST", route="/a", body={"y": [2], "x": 1.0})
    body = {"x": 1, "y": [2]}
    body = {"x": 1, "y": [2]}
    others = [("PUT", "/a", body), ("POST", "/b", body), ("POST", "/a", {**body, "x": 2})]
    assert same not in {fingerprint(method=m, route=r, body=b) for m, r, b in others}
    assert len(same) == 32
