"""What the commands for payments work with: the operator's payments, and how things are printed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from faregate.entrypoints.arguments import words
from faregate.entrypoints.servers import on_site

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.infra.database import Connection
    from faregate.payments.api import PaymentsApi
    from faregate.payments.contracts.cards import Card
    from faregate.payments.contracts.payments import Payment

Result = TypeVar("Result")
OPERATOR = "operator"
By = Annotated[
    str | None, typer.Option(help="Who does it; unset: the user of this machine.", callback=words(100))
]


def on_payments(act: Callable[[PaymentsApi], Awaitable[Result]]) -> Result:
    """Ask something of payments."""

    async def with_payments(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.payments import operators_payments

        return await act(await operators_payments(stack, site))

    return on_site(with_payments)


def in_transaction(act: Callable[[PaymentsApi, Connection], Awaitable[Result]]) -> Result:
    """Change something of payments, wholly or not at all."""

    async def within(payments: PaymentsApi) -> Result:
        async with payments.database.transaction() as conn:
            return await act(payments, conn)

    return on_payments(within)


def card_row(card: Card) -> dict[str, Any]:
    """Return a card as a row."""
    return {
        "card": card.token,
        "member": card.member_id,
        "product": card.product,
        "status": card.status.value,
        "last4": card.last4,
        "limits": {
            limit.currency: f"{limit.transaction_minor_max}/{limit.day_minor_max}" for limit in card.limits
        },
        "application": card.application_id,
        "issued_at": card.issued_at,
    }


def payment_row(payment: Payment) -> dict[str, Any]:
    """Return a payment as a row."""
    return {
        "payment": payment.id,
        "status": payment.status.value,
        "flagged": payment.is_flagged,
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "merchant": payment.merchant,
        "reasons": " ".join(reason["code"] for reason in payment.decision["reasons"]),
        "degraded": " ".join(payment.decision["degraded"]),
        "cell": payment.decision["policy"]["cell"],
        "card": payment.card_token,
        "decided_at": payment.decided_at,
    }
