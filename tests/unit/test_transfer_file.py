"""The file that tells a partner of transfers, and its answer: whole, or not read at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.sandbox.partners.transfer_e import _read
from faregate.travel.partners.transfer_file import Acknowledged, Drop, FileBroken, Row, acknowledged, written

rows = st.lists(
    st.builds(
        Row,
        transfer_id=st.from_regex(r"trf_[0-9A-Z]{4}", fullmatch=True),
        account=st.from_regex(r"[A-Za-z0-9-]{1,8}", fullmatch=True),
        units=st.integers(1, 10**9),
    ),
    max_size=5,
)
WHOLE = b"transfer_id,status,reason\ntrf_1,accepted,\ntrf_2,rejected,unknown_account\nEND,2,\n"


@given(rows=rows)
def test_what_is_written_is_what_the_partner_reads(rows: list[Row]) -> None:
    assert _read(written(rows).decode()) == [(row.transfer_id, row.account, row.units) for row in rows]


@given(rows=rows, cut=st.integers(1, 60))
def test_a_file_that_was_cut_off_is_known_for_one(rows: list[Row], cut: int) -> None:
    whole = written(rows).decode()
    lines = whole[: max(0, len(whole) - cut - 1)]
    assert _read(lines) is None


def test_a_whole_answer_says_what_became_of_each() -> None:
    assert acknowledged(WHOLE) == [
        Acknowledged(transfer_id="trf_1", is_accepted=True, reason=""),
        Acknowledged(transfer_id="trf_2", is_accepted=False, reason="unknown_account"),
    ]


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_half_an_answer_is_no_answer(cut: int) -> None:
    if WHOLE[:cut] == WHOLE[:-1]:
        assert acknowledged(WHOLE[:cut]) == acknowledged(WHOLE)
        return
    with pytest.raises(FileBroken):
        acknowledged(WHOLE[:cut])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"a,b,c\nEND,0,\n",
        WHOLE.replace(b"accepted", b"maybe"),
        WHOLE.replace(b"END,2", b"END,3"),
    ],
)
def test_an_answer_that_is_not_as_agreed_is_refused(body: bytes) -> None:
    with pytest.raises(FileBroken):
        acknowledged(body)


def test_a_file_that_is_there_stays_as_it_is_and_nothing_half_is_seen(tmp_path: Path) -> None:
    drop = Drop(tmp_path)
    drop.put("f-1", b"first")
    drop.put("f-1", b"second")
    assert [path.name for path in (tmp_path / "outgoing").iterdir()] == ["f-1.csv"]
    assert (tmp_path / "outgoing" / "f-1.csv").read_bytes() == b"first"
