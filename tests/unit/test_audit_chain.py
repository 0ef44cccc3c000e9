"""The links of the audit chain: their form, what they cover, and how a changed column is named."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.chain.links import (
    SUM_BYTES,
    Break,
    Head,
    Inspection,
    Row,
    changed_columns,
    link_sha256,
    sealed,
)

NOW = datetime(2026, 11, 25, 22, 0, 0, 5, tzinfo=UTC)
ROW = Row(subject="decision", ord=7, key="app_1/1", sha256=bytes(32), column_sums=b"x" * 16)
COLUMNS = {"decision": ["outcome", "inputs", "added_later"], "audit_entry": ["id"]}

rows = st.builds(
    Row,
    subject=st.sampled_from(["decision", "audit_entry"]),
    ord=st.integers(1, 2**53 - 1),
    key=st.text(st.characters(codec="utf-8"), max_size=20),
    sha256=st.binary(min_size=32, max_size=32),
    column_sums=st.binary(max_size=32),
)


@pytest.mark.requirement("C32")
@given(st.lists(rows, max_size=5), st.binary(min_size=32, max_size=32))
def test_a_link_is_hashed_in_the_form_of_rfc_8785(recorded: list[Row], start: bytes) -> None:
    previous = start
    for link in sealed(recorded, after=Head(seq=41, sha256=start), sealed_at=NOW):
        covered = {
            "seq": link.seq,
            "subject": link.subject,
            "ord": link.ord,
            "key": link.key,
            "row_sha256": link.row_sha256.hex(),
            "column_sums": link.column_sums.hex(),
            "sealed_at": "2026-11-25T22:00:00.000005+00:00",
            "previous_sha256": previous.hex(),
        }
        assert link.sha256 == hashlib.sha256(rfc8785.dumps(covered)).digest()
        previous = link.sha256


def test_links_go_on_from_the_end_of_the_chain() -> None:
    links = sealed([ROW, replace(ROW, ord=8)], after=Head(seq=41), sealed_at=NOW)
    assert [link.seq for link in links] == [42, 43]
    assert links == [
        *sealed([ROW], after=Head(seq=41), sealed_at=NOW),
        *sealed([replace(ROW, ord=8)], after=Head(seq=42, sha256=links[0].sha256), sealed_at=NOW),
    ]


def test_every_field_of_a_link_and_the_link_before_are_covered() -> None:
    [link] = sealed([ROW], after=Head(), sealed_at=NOW)
    others = {
        "seq": 2,
        "subject": "audit_entry",
        "ord": 8,
        "key": "app_1/2",
        "row_sha256": b"\1" * 32,
        "column_sums": b"y" * 16,
        "sealed_at": NOW + timedelta(microseconds=1),
    }
    assert others.keys() == {field.name for field in fields(link)} - {"sha256"}
    hashes = {
        link_sha256(replace(link, **{name: value}), previous=bytes(32)) for name, value in others.items()
    }
    hashes |= {link.sha256, link_sha256(link, previous=b"\1" * 32)}
    assert len(hashes) == len(others) + 2


def test_the_time_zone_in_which_an_instant_was_read_changes_nothing() -> None:
    [link] = sealed([ROW], after=Head(), sealed_at=NOW)
    elsewhere = replace(link, sealed_at=NOW.astimezone(timezone(timedelta(hours=5))))
    assert link_sha256(elsewhere, previous=bytes(32)) == link.sha256


SUMS = [  # as it was sealed, as it is now, what changed
    (b"a" * 8 + b"b" * 8, b"a" * 8 + b"b" * 8, ()),
    (b"a" * 8 + b"b" * 8, b"a" * 8 + b"c" * 8, ("inputs",)),
    (b"a" * 8 + b"b" * 8, bytes(8) + b"b" * 8, ("outcome",)),
    (b"a" * 8 + b"b" * 8, b"a" * 8 + b"b" * 8 + bytes(8), ()),
    (b"a" * 8 + b"b" * 8, b"a" * 8 + b"b" * 8 + b"c" * 8, ("added_later",)),
    (b"a" * 8 + b"b" * 8, b"c" * 8 + b"d" * 8, ("outcome", "inputs")),
]


@pytest.mark.requirement("C32")
@pytest.mark.parametrize(("before", "now", "changed"), SUMS)
def test_the_columns_that_changed_are_named_and_a_later_empty_one_is_no_change(
    before: bytes, now: bytes, changed: tuple[str, ...]
) -> None:
    assert len(before) % SUM_BYTES == 0
    assert changed_columns(before, now, names=COLUMNS["decision"]) == changed


def test_an_inspection_stops_where_the_first_link_is_missing() -> None:
    links = sealed([ROW, replace(ROW, ord=8)], after=Head(), sealed_at=NOW)
    inspection = Inspection(columns=COLUMNS)
    assert inspection.of_link(links[1], ROW) == Break(table="audit_link", key="1", what="the link is gone")
    assert inspection.head == Head()


def test_an_empty_chain_is_whole() -> None:
    assert Inspection(columns=COLUMNS).at_end(Head()) is None
