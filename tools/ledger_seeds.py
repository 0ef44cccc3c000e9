"""Runs random histories through the points ledger beside its plain model, seed after seed, on a PostgreSQL of its own.

    python -m tools.ledger_seeds                        a thousand seeds
    python -m tools.ledger_seeds --seeds 10000 --operations 60 --first 0

Every answer is compared, and all invariants are checked at the end of each history. The first seed that differs is
printed, and can be run again alone with `--first`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import track
from tests.points_ledger import run_seed
from tests.servers import VOLATILE

from faregate.infra.database import Database
from faregate.infra.embedded import embedded_servers
from faregate.infra.migrations import migrate


async def run(url: str, *, first: int, seeds: int, operations: int) -> int | None:
    """Run the seeds, and return the first that fails."""
    database = await Database.open(url, role="faregate_points")
    try:
        for seed in track(range(first, first + seeds), description="seeds"):
            try:
                await run_seed(database, seed, operations=operations, checked_each=False)
            except AssertionError as difference:
                sys.stderr.write(f"seed {seed}: {difference}\n")
                return seed
    finally:
        await database.close()
    return None


def main() -> int:
    """Run what the arguments say; the exit status is 1 if a seed fails."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=1_000, help="how many")
    asked.add_argument("--first", type=int, default=0, help="the first of them")
    asked.add_argument("--operations", type=int, default=60, help="in each history")
    given = asked.parse_args()
    with (
        TemporaryDirectory(prefix="faregate-seeds-") as folder,
        embedded_servers(Path(folder) / "home", postgres_settings=VOLATILE, end_with_us=True) as servers,
    ):
        migrate(servers.database_url)
        failed = asyncio.run(
            run(servers.database_url, first=given.first, seeds=given.seeds, operations=given.operations)
        )
    if failed is None:
        sys.stdout.write(f"{given.seeds:,} seeds from {given.first} on: every answer as in the model\n")
    return 0 if failed is None else 1


if __name__ == "__main__":
    sys.exit(main())
