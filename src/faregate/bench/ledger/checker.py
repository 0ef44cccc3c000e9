"""Checks what a ledger answered, and what it has in the end, without knowing anything else of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from faregate.bench.ledger.drive import Call
from faregate.bench.ledger.port import DONE, Holding


@dataclass(slots=True)
class _Account:
    earned: int = 0
    spent: int = 0
    open: int = 0
    changes: list[tuple[float, int, int]] = field(default_factory=list)


def violations(
    calls: Iterable[Call], *, earned: Mapping[str, int], balances: Mapping[str, Holding]
) -> list[str]:
    """Return what cannot be true of a correct ledger, each as a sentence; nothing if all can be.

    `calls` are all that were answered, `earned` what each account had before, `balances` what it has in the end.
    """
    by_key: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_key[call.key].append(call)
    found = [
        f"the key {key} got the answers {sorted({call.answer for call in answered})}"
        for key, answered in by_key.items()
        if len({call.answer for call in answered}) > 1
    ]
    once = [min(answered, key=lambda call: call.ended) for answered in by_key.values()]
    done = [call for call in once if call.answer == DONE]
    return [*found, *_of_holds(done), *_of_accounts(done, earned=earned, balances=balances)]


def _of_holds(done: Iterable[Call]) -> Iterator[str]:
    """A hold ends once, and only one that was made."""
    made, ended = set(), set()
    for call in done:
        if call.kind == "hold":
            made.add(call.key)
        elif call.hold in ended:
            yield f"the hold {call.hold} ended twice"
        else:
            ended.add(call.hold)
    for hold in sorted(ended - made):
        yield f"the hold {hold} ended, and was never made"


def _of_accounts(
    done: Iterable[Call], *, earned: Mapping[str, int], balances: Mapping[str, Holding]
) -> Iterator[str]:
    accounts: dict[str, _Account] = defaultdict(_Account)
    for call in done:
        account = accounts[call.account]
        match call.kind:
            case "hold":
                account.open += call.amount
                account.changes.append((call.ended, 0, call.amount))
            case "post":
                account.open -= call.amount
                account.spent += call.amount
            case _:
                account.open -= call.amount
                account.changes.append((call.began, 1, -call.amount))
    for name, balance in balances.items():
        account, had = accounts[name], earned.get(name, 0)
        expected = Holding(posted=had - account.spent, held=account.open)
        if balance != expected:
            yield f"{name} has {tuple(balance)}, and its calls leave {tuple(expected)}"
        if account.open + account.spent > had:
            yield f"{name} had {had}, and gave away {account.open + account.spent}"
        yield from _over_committed(name, account, had)


def _over_committed(name: str, account: _Account, had: int) -> Iterator[str]:
    """At no instant can more be given away for certain than there was.

    A hold counts from its answer on; a void counts from when it was asked, since it may have been done at once.
    """
    certain = 0
    for _, _, change in sorted(account.changes):
        certain += change
        if certain > had:
            yield f"{name} had {had}, and at one instant {certain} were given away"
            return
