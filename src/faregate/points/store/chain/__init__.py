"""The hash chain over the ledger: one link an operation, with its entries, lots and cuts."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from faregate.infra.chain.store import ChainStore
from faregate.infra.queries import load_queries

ANCHOR_FILE: Final = "points-anchors.jsonl"
CHAIN: Final = ChainStore(
    name="points.sealer",
    queries=load_queries(__name__),
    links_table="link",
    sealer_table="sealer",
    apart=timedelta(microseconds=1),
)
