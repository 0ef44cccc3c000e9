"""What rows of the ledger mean to the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from faregate.points.contracts.ledger import AccountStatus, Balance, Layer, Operation, OperationKind, Refusal
from faregate.points.domain.account import Account
from faregate.points.domain.case import Reservation
from faregate.points.domain.lots import ROLLING, OpenLots, Piece, Place, Stretch

_ROLLING_BUCKET: Final = 1


def account_of(row: Mapping[str, Any]) -> Account:
    """Return an account as it stands, without the dated lots from its frontier on."""
    gaps, holes = _pieces(row["gaps"]), _pieces(row["holes"])
    fixed = OpenLots(
        frontier=Place(row["frontier_on"], row["frontier_bucket"], row["frontier_offset"]),
        buckets=[],
        amounts={},
        gaps=[gap for gap in gaps if gap.expires_on != ROLLING],
        holes=[hole for hole in holes if hole.expires_on != ROLLING],
        newest=row["newest_bucket"],
        newest_behind=row["newest_behind"],
        closed=row["closed_bucket"],
    )
    bucket = (ROLLING, _ROLLING_BUCKET)
    rolling = OpenLots(
        frontier=Place(*bucket, row["rolling_offset"]),
        buckets=[bucket] if row["rolling"] else [],
        amounts={bucket: row["rolling"]} if row["rolling"] else {},
        gaps=[gap for gap in gaps if gap.expires_on == ROLLING],
        holes=[hole for hole in holes if hole.expires_on == ROLLING],
        newest=_ROLLING_BUCKET if row["rolling"] else 0,
    )
    return Account(
        no=row["account_no"],
        member_id=row["member_id"],
        fixed=fixed,
        rolling=rolling,
        status=AccountStatus(row["status"]),
        floor=row["floor"],
        posted=row["posted"],
        pending=row["pending"],
        held=row["held"],
        owed=row["owed"],
        version=row["version"],
        last_at=row["last_at"],
        rolling_until=row["rolling_until"],
    )


def reservation_of(row: Mapping[str, Any]) -> Reservation:
    """Return a hold or a pending earn."""
    return Reservation(
        amount=row["amount"],
        layer=Layer(row["layer"]),
        expires_at=row["expires_at"],
        resolved_by=None if row["resolved_by"] is None else OperationKind(row["resolved_by"]),
        posted=row["posted"],
    )


def _pieces(ranges: Sequence[Sequence[Any]] | None) -> list[Piece]:
    return [Piece(date.fromisoformat(day), *rest) for day, *rest in ranges or ()]


def stretch_of(row: Mapping[str, Any]) -> Stretch:
    """Return what an operation cut out of the lots."""
    begin = Place(row["from_on"], row["from_bucket"], row["from_offset"])
    return Stretch(
        begin, Place(row["to_on"], row["to_bucket"], row["to_offset"]), row["newest"], row["amount"]
    )


def piece_of(row: Mapping[str, Any]) -> Piece:
    """Return a lot."""
    return Piece(row["expires_on"], row["bucket"], row["first"], row["first"] + row["amount"])


def take_in_buckets(track: OpenLots, row: Mapping[str, Any]) -> None:
    """Give a track of lots its buckets from the frontier on."""
    track.buckets = list(zip(row["days"] or (), row["numbers"] or (), strict=True))
    track.amounts |= dict(zip(track.buckets, row["amounts"] or (), strict=True))
    track.is_complete = row["is_complete"]


def operation_of(row: Mapping[str, Any], *, is_replay: bool = False) -> Operation:
    """Return an operation. Of a member who has no account the name stands in the details."""
    details = row["details"] or {}
    return Operation(
        no=row["no"],
        key=row["key"],
        kind=OperationKind(row["kind"]),
        member_id=row["member_id"] or details.get("member_id", ""),
        amount=row["amount"],
        at=row["at"],
        refusal=None if row["refusal"] is None else Refusal(row["refusal"]),
        balance=None if row["posted"] is None else balance_of(row),
        subject=row["subject_no"],
        gives=details.get("gives"),
        arrives=details.get("arrives"),
        is_replay=is_replay,
    )


def details_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what was asked for beside what has a column of its own."""
    details = dict(row["details"] or {})
    if row["member_id"] is None:
        details.pop("member_id", None)
    return details


def balance_of(row: Mapping[str, Any]) -> Balance:
    """Return the balances of a row that has all of them."""
    return Balance(posted=row["posted"], pending=row["pending"], held=row["held"], owed=row["owed"])


def cutter_of(row: Mapping[str, Any]) -> int:
    """Return the number of the operation that cut what an operation spent: of a posted hold, the hold."""
    return int(row["subject_no"] if row["kind"] == OperationKind.POST else row["no"])
