"""What can be a process of its own: what `faregate serve` and `faregate work` take, and whom each is in PostgreSQL.

What each opens stands in `bootstrap/api.py` and `bootstrap/worker.py`. Nothing is imported here that takes time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from faregate.kernel.errors import InvalidError


class UnknownPart(InvalidError):
    """There is no such context or role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a process is there for, and the parts as which it acts in the database (`credit`: `faregate_credit`).

    Parts that `may_be_asked` answer over HTTP where a setting says so: then it need not act as them.
    """

    says: str
    acts_as: tuple[str, ...]
    may_be_asked: tuple[str, ...] = ()


RELAY = "relay"
"""The role that has something to do only where another bus is configured."""

CONTEXTS: Mapping[str, Purpose] = {
    "credit": Purpose(says="applications, callbacks, rulesets, audit, notices", acts_as=("access", "credit")),
    "webhooks": Purpose(says="clients' webhook endpoints", acts_as=("access", "webhooks")),
    "review": Purpose(says="the queue of manual review", acts_as=("access", "credit")),
    "gateway": Purpose(says="how providers are treated", acts_as=("access", "gateway")),
    "members": Purpose(says="members and their households", acts_as=("access", "members")),
    "points": Purpose(says="the points ledger", acts_as=("access", "points")),
    "travel": Purpose(
        says="search, redemptions", acts_as=("access", "members", "travel"), may_be_asked=("members",)
    ),
    "fraud": Purpose(
        says="decides whether a payment is fraud; takes events of behaviour", acts_as=("access", "fraud")
    ),
    "payments": Purpose(says="cards, payments, their policy", acts_as=("access", "payments")),
}
"""The routes that a process may serve, in the order of their documentation."""

ROLES: Mapping[str, Purpose] = {
    "sequencer": Purpose(says="gives committed events their place in the log", acts_as=("eventlog",)),
    RELAY: Purpose(says="passes the log on to another bus, where there is one", acts_as=("eventlog",)),
    "consumers": Purpose(
        says="handles events; one group alone: consumers.GROUP",
        acts_as=("credit", "members", "payments", "points"),
    ),
    "runs": Purpose(
        says="executes the runs of applications and redemptions",
        acts_as=("credit", "payments", "points", "travel", "workflow"),
        may_be_asked=("payments", "points"),
    ),
    "providers": Purpose(says="calls providers, settles their callbacks", acts_as=("credit", "gateway")),
    "partners": Purpose(
        says="calls travel partners, exchanges files with those that take points",
        acts_as=("points", "travel"),
        may_be_asked=("points",),
    ),
    "audit": Purpose(says="seals the record, notes the end of its chain", acts_as=("credit",)),
    "webhooks": Purpose(says="delivers to clients' endpoints", acts_as=("webhooks",)),
    "points": Purpose(says="releases holds, lets points expire, seals the ledger", acts_as=("points",)),
    "payments": Purpose(
        says="issues cards that wait for their member, reverses authorisations that expired",
        acts_as=("credit", "members", "payments"),
    ),
    "features": Purpose(says="keeps the features of payments up to date", acts_as=("eventlog",)),
    "housekeeping": Purpose(
        says="decides what is overdue, forgets what is due", acts_as=("credit", "eventlog")
    ),
}
"""What a worker process may do."""


def roles_of(*, kafka: bool) -> tuple[str, ...]:
    """Return the roles that have something to do, on Kafka or without it."""
    return tuple(role for role in ROLES if kafka or role != RELAY)


COMMANDS: Mapping[str, Mapping[str, Purpose]] = {"serve": CONTEXTS, "work": ROLES}


def described(purposes: Mapping[str, Purpose]) -> str:
    """Return a line of help that names each with what it is for."""
    return "; ".join(f"{name}: {purpose.says}" for name, purpose in purposes.items())


def require_known(names: Sequence[str], known: Sequence[str], *, kind: str) -> None:
    """Raise UnknownPart for the first name that is none of those."""
    for name in names:
        if name not in known:
            raise UnknownPart(f"there is no {kind} {name!r}; there are {', '.join(known)}")


def acts_as(
    names: Sequence[str], purposes: Mapping[str, Purpose], *, apart: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the parts as which a process of these contexts or roles acts; of all where none is named.

    Parts that are `apart` are asked over HTTP where they may be.
    """
    chosen = [purposes[name.partition(".")[0]] for name in names] or list(purposes.values())
    needed: set[str] = set()
    for one in chosen:
        needed |= set(one.acts_as) - (set(one.may_be_asked) & set(apart))
    return tuple(sorted(needed))


def logins() -> Mapping[str, tuple[str, ...]]:
    """Return for each command the name of its login role (`faregate_login_work_audit`) and whom it may become."""
    found: dict[str, tuple[str, ...]] = {}
    for command, purposes in COMMANDS.items():
        found[f"faregate_login_{command}"] = acts_as((), purposes)
        for name in purposes:
            found[f"faregate_login_{command}_{name}"] = acts_as((name,), purposes)
    return found
