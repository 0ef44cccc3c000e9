"""RFC 8785 canonical JSON: the standard's own examples, and agreement of both ways to compute it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.security.canonical import NotCanonicalisable, canonical_hash, canonical_json

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ({"b": 1, "a": [True, None, "x"]}, b'{"a":[true,null,"x"],"b":1}'),
        ([333333333.33333329, 1e30, 4.50, 2e-3, 1e-27], b"[333333333.3333333,1e+30,4.5,0.002,1e-27]"),
        ({"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7},
         '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"😀":5,"\ufb33":3}'.encode()),
        ("\x0f\n\\\"/\u20ac$", '"\\u000f\\n\\\\\\"/€$"'.encode()),
        ([56.0, -0.0, 1e21, 1e20], b"[56,0,1e+21,100000000000000000000]"),
    ],
)  # fmt: skip
def test_the_examples_of_rfc_8785_come_out_byte_for_byte(value: Any, canonical: bytes) -> None:
    assert canonical_json(value) == canonical


@given(_VALUES)
def test_the_fast_way_agrees_with_the_reference_library(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@given(_VALUES)
def test_key_order_and_spacing_change_nothing(value: Any) -> None:
    spaced = orjson.loads(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    assert canonical_hash(spaced) == canonical_hash(value)


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [2**53, float("nan"), "\ud800", {"a": float("inf")}, {1: "x"}, nested(80), [1.5, nested(3000)]]
)
def test_a_value_without_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonicalisable):
        canonical_json(value)
