"""Labels are brought by whoever learns of frauds: reviewers, cardholders, the network's chargebacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from faregate.fraud.contracts.labels import Label, LabelsTaken
from faregate.fraud.store import labels as store
from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError, InvalidError

AT_ONCE_MAX: Final = 1_000
AHEAD: Final = timedelta(seconds=60)
_PAYMENT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SOURCE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class LabelsInvalid(InvalidError):
    """One to a thousand labels are taken at once, each of a payment, a source, and an instant that is not to come."""


class LabelContradicts(ConflictError):
    """The same source said the opposite of this payment, known since the same instant: one of them is wrong."""


@dataclass(frozen=True, kw_only=True)
class LabelDesk:
    """Takes labels in and shows them."""

    database: Database
    clock: Clock

    async def bring(self, conn: Connection, labels: Sequence[Label], *, actor: str) -> LabelsTaken:
        """Take labels in; those that are there already change nothing. Raises LabelsInvalid or LabelContradicts."""
        now = self.clock.now()
        distinct = list(dict.fromkeys(labels))
        if not 1 <= len(labels) <= AT_ONCE_MAX:
            raise LabelsInvalid(f"give 1 to {AT_ONCE_MAX:,} labels")
        for label in distinct:
            if not _PAYMENT.fullmatch(label.payment_id) or not _SOURCE.fullmatch(label.source):
                raise LabelsInvalid("a label needs the id of a payment, and a source such as chargeback")
            if label.known_at > now + AHEAD:
                raise LabelsInvalid(f"{label.payment_id} is known from an instant on that is to come")
        places = {(label.payment_id, label.source, label.known_at) for label in distinct}
        if len(places) != len(distinct):
            raise LabelContradicts("two of these labels say the opposite of one payment")
        new = await store.add(conn, distinct, at=now, by=actor)
        if (found := await store.contradiction(conn, distinct)) is not None:
            raise LabelContradicts(f"{found[1]} said the opposite of {found[0]}", payment_id=found[0])
        return LabelsTaken(new=new, known=len(labels) - new)

    async def of_payment(self, conn: Connection, payment_id: str) -> Sequence[Label]:
        """Return what is known of a payment, the newest first: that one counts."""
        return await store.of_payment(conn, payment_id)
