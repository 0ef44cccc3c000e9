"""The six calls that a ledger must answer to be measured and checked. Nothing else is known of it here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

DONE: Final = "done"
"""The answer to what was carried out, now or when its key came first. Any other word is a refusal's name."""


class Holding(NamedTuple):
    """What an account has: `posted` points, of which `held` are reserved."""

    posted: int
    held: int


class LedgerUnderTest(Protocol):
    """A ledger. Keys make each call happen at most once: the same key gets the same answer, refusals included.

    A call returns DONE or why it was refused, in a word of the ledger's own; it raises when nothing can be said.
    """

    async def open(self, accounts: Sequence[str]) -> None:
        """Open accounts with nothing on them, which may not fall below 0."""
        ...

    async def earn(self, key: str, account: str, amount: int) -> str:
        """Add points to an account."""
        ...

    async def hold(self, key: str, account: str, amount: int) -> str:
        """Reserve points of an account, so that they cannot be spent otherwise."""
        ...

    async def post(self, key: str, hold: str, account: str) -> str:
        """Spend what the hold of this key reserved."""
        ...

    async def void(self, key: str, hold: str, account: str) -> str:
        """Release what the hold of this key reserved."""
        ...

    async def balance(self, account: str) -> Holding:
        """Return what an account has at one instant."""
        ...
