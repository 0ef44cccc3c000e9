"""JSON bodies: strict syntax, and problems that repeat nothing of what was sent."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request

from faregate.infra.http.body import (
    BrokenJson,
    UnsupportedMediaType,
    ValidationFailed,
    check_media_type,
    parse_json,
    validate,
)

NOT_A_NUMBER = "Input should be a valid integer, unable to parse string as an integer"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: int = Field(ge=1)
    ssn_last4: str = Field(default="0000", pattern="^[0-9]{4}$")
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat")

    @field_validator("amount")
    @classmethod
    def even(cls, amount: int) -> int:
        if amount % 2:
            raise ValueError("must be even")
        return amount


def request(content_type: str | None) -> Request:
    headers = [(b"content-type", content_type.encode())] if content_type is not None else []
    return Request({"type": "http", "headers": headers})


def errors_of(value: Any) -> list[dict[str, str]]:
    with pytest.raises(ValidationFailed) as refused:
        validate(Form, value)
    errors: list[dict[str, str]] = refused.value.facts["errors"]
    return errors


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT


@given(
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
        max_leaves=8,
    )
)
def test_every_good_document_is_read_as_it_is(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"{'a': 1}", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1,}', b'{"a": 1, "a": 2}',
     b'{"b": {"a": 1, "\\u0061": 1}}',
     b'"\\ud800"', b'"\xff"', b"\xef\xbb\xbf{}", b"{}{}", b"[" * 60_000, b"01", b"\x00"],
)  # fmt: skip
def test_a_broken_document_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenJson):
        parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a": [3.0, 2.5, -0.0, 1e3]}', {"a": [3, 2.5, 0, 1000]}),
        (b"1e300", 1e300),
        (b"9007199254740993.0", 9007199254740992),
    ],
)
def test_a_number_without_a_fraction_is_an_integer(raw: bytes, value: Any) -> None:
    read = parse_json(raw)
    assert json.dumps(read) == json.dumps(value)


def test_a_broken_document_is_not_quoted() -> None:
    with pytest.raises(BrokenJson) as refused:
        parse_json(b'{"legal_name": "Jane Doe", "dob": 1980-01-02}')
    assert "Jane" not in refused.value.detail
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "good", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8",
             "application/vnd.api+json", 'application/json; charset="utf-8"']
)  # fmt: skip
def test_json_media_types_are_taken(good: str) -> None:
    check_media_type(request(good))


@pytest.mark.parametrize("bad", [None, "", "text/plain", "application/xml", "application/jsonx",
                                 "application/json; charset=latin-1", "text/json"])  # fmt: skip
def test_other_media_types_are_refused(bad: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        check_media_type(request(bad))


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ({}, "amount", "Field required"),
        (
            {"amount": "secret"},
            "amount",
            NOT_A_NUMBER,
        ),
        ({"amount": 3}, "amount", "must be even"),
        ({"amount": 2, "ssn_last4": "secret"}, "ssn_last4", "String should match pattern '^[0-9]{4}$'"),
        ({"amount": 2, "extra": "secret"}, "extra", "Extra inputs are not permitted"),
        ({"amount": 2, "my secret": 1}, "?", "Extra inputs are not permitted"),
        ({"amount": 2, "pet": {"kind": "secret"}}, "pet", "The kind is not known"),
        (["secret"], "", "Input should be a valid dictionary or instance of Form"),
    ],
)
def test_a_validation_problem_names_field_and_rule_but_no_value(value: Any, field: str, message: str) -> None:
    assert errors_of(value) == [{"field": field, "message": message}]


def test_a_good_value_becomes_the_model() -> None:
    assert validate(Form, {"amount": 4}).amount == 4
