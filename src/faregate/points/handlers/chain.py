"""The chain over the ledger: is it whole, and where does it end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faregate.infra.chain.anchors import read_anchors
from faregate.infra.chain.check import inspect
from faregate.infra.chain.links import Anchored, Break
from faregate.infra.database import Database
from faregate.points.handlers.reading import ONE_INSTANT
from faregate.points.store.chain import CHAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a check found: how many links hold from the first one on, and the first row that is not as it was sealed.

    `unsealed` operations wait for their link, the oldest for `unsealed_s` seconds; `anchors` were compared.
    """

    links: int
    broken: Break | None
    unsealed: int
    unsealed_s: float
    anchors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    """Where the chain ends, and what waits to be sealed."""

    links: int
    sha256: str
    unsealed: int
    unsealed_s: float


async def verify(database: Database, *, anchor_file: Path) -> ChainReport:
    """Walk along the whole chain, at one instant. Raises AnchorsUnreadable."""
    anchors: Sequence[Anchored] = read_anchors(anchor_file)
    async with database.transaction() as conn:
        await conn.execute(ONE_INSTANT)
        links, broken = await inspect(conn, store=CHAIN, anchors=anchors)
        unsealed, unsealed_s = await CHAIN.waiting(conn)
    return ChainReport(
        links=links, broken=broken, unsealed=unsealed, unsealed_s=unsealed_s, anchors=len(anchors)
    )


async def chain_end(database: Database) -> ChainEnd:
    """Return where the chain ends."""
    async with database.connection() as conn:
        head = (await CHAIN.recorded_head(conn)).head
        unsealed, unsealed_s = await CHAIN.waiting(conn)
    return ChainEnd(links=head.seq, sha256=head.sha256.hex(), unsealed=unsealed, unsealed_s=unsealed_s)
