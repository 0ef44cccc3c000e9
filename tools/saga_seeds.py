"""Runs redemptions against model partners under a virtual clock, seed after seed.

    python -m tools.saga_seeds                     a thousand seeds
    python -m tools.saga_seeds --seeds 10000 --first 0

The invariants of the saga are checked after each of its decisions. The first seed that breaks one is printed with its
story, and can be run again alone with `--first`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from rich.progress import track
from tests.travel_simulation import Broken, World


def main() -> int:
    """Run what the arguments say; the exit status is 1 if a seed fails."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seeds", type=int, default=1_000, help="how many")
    asked.add_argument("--first", type=int, default=0, help="the first of them")
    given = asked.parse_args()
    ends: Counter[str] = Counter()
    for seed in track(range(given.first, given.first + given.seeds), description="seeds"):
        try:
            ends[World(seed).run()] += 1
        except Broken as story:
            sys.stderr.write(f"seed {seed}: {story}\n")
            return 1
    told = ", ".join(f"{count:,} {end}" for end, count in sorted(ends.items()))
    sys.stdout.write(f"{given.seeds:,} seeds from {given.first} on: every invariant held; {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
