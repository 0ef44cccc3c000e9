"""`faregate payments`: cards, payments, and what was decided without the scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faregate.entrypoints.arguments import ArgumentRefused, Reason
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.payment_desk import OPERATOR, card_row, in_transaction, on_payments, payment_row
from faregate.entrypoints.payment_policy_commands import policy
from faregate.payments.contracts.cards import CardAct, Limit, NewCard
from faregate.payments.domain.cards import checked_number

if TYPE_CHECKING:
    from faregate.payments.api import PaymentsApi
    from faregate.payments.contracts.cards import Card

app = typer.Typer(
    no_args_is_help=True,
    help="Cards and payments, and the policy for when the scorer cannot say.",
    epilog="Example: faregate payments cards --json",
)
app.add_typer(policy, name="policy")

Token = Annotated[str, typer.Argument(help="Token of the card: crd_….")]
Many = Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)]


@app.command("cards", epilog="Example: faregate payments cards --member mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def cards(
    member: Annotated[str | None, typer.Option(help="Only this member's.")] = None,
    limit: Many = 50,
    as_json: Json = False,
) -> None:
    """List a member's cards, or the newest of all. Limits are those of a transaction and of a day."""
    found = on_payments(lambda payments: payments.cards(member, limit=limit))
    print_rows([card_row(card) for card in found], as_json=as_json)


@app.command("card", epilog="Example: faregate payments card crd_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def card(token: Token, as_json: Json = False) -> None:
    """Show a card, and what was done to it."""

    async def act(payments: PaymentsApi) -> dict[str, Any]:
        found = await payments.card(token)
        record = [asdict(entry) for entry in await payments.card_record(token)]
        return {"card": card_row(found), "record": record}

    found = on_payments(act)
    if as_json:
        echo_json(found)
        return
    for name, value in found["card"].items():
        typer.echo(f"{name:12} {value if value is not None else ''}")
    print_rows(found["record"], as_json=False)


@app.command("list", epilog="Example: faregate payments list --flagged --json")
def list_payments(
    card: Annotated[str | None, typer.Option(help="Only those of this card.")] = None,
    member: Annotated[str | None, typer.Option(help="Only those of this member.")] = None,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Only those that a person should look at.")
    ] = False,
    limit: Many = 20,
    as_json: Json = False,
) -> None:
    """List the newest payments."""
    found = on_payments(
        lambda payments: payments.payments(card_token=card, member_id=member, flagged=flagged, limit=limit)
    )
    print_rows([payment_row(payment) for payment in found], as_json=as_json)


@app.command("show", epilog="Example: faregate payments show pay_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def show(
    payment_id: Annotated[str, typer.Argument(help="Id of the payment: pay_….")], as_json: Json = False
) -> None:
    """Show a payment: what it was decided by, and how it stands. With --json on one line."""
    found = on_payments(lambda payments: payments.payment(payment_id, client_id=None))
    echo_json(asdict(found), pretty=not as_json)


@app.command(
    "issue", epilog="Example: faregate payments issue mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R --product cashback_card"
)
def issue(
    member_id: Annotated[str, typer.Argument(help="Id of the member: mbr_….")],
    product: Annotated[str, typer.Option(help="Product of the card: its limits follow from it.")],
    as_json: Json = False,
) -> None:
    """Issue a card by hand. Those of approved applications are issued by themselves."""
    new = NewCard(member_id=member_id, product=product)
    issued = in_transaction(lambda payments, conn: payments.desk.issue(conn, new, by=OPERATOR))
    print_rows([card_row(issued)], as_json=as_json)


@app.command(
    "block", epilog="Example: faregate payments block crd_01J3R2J7F1TQ0K6W6N8A4X9V7R --reason stolen"
)
def block(token: Token, reason: Reason, as_json: Json = False) -> None:
    """Block a card: it pays no more, whatever the scorer says."""
    _set_status(token, CardAct.BLOCK, reason, as_json=as_json)


@app.command(
    "unblock", epilog="Example: faregate payments unblock crd_01J3R2J7F1TQ0K6W6N8A4X9V7R --reason found"
)
def unblock(token: Token, reason: Reason, as_json: Json = False) -> None:
    """Let a blocked card pay again."""
    _set_status(token, CardAct.UNBLOCK, reason, as_json=as_json)


@app.command(
    "close", epilog="Example: faregate payments close crd_01J3R2J7F1TQ0K6W6N8A4X9V7R --reason returned"
)
def close(token: Token, reason: Reason, as_json: Json = False) -> None:
    """Close a card for ever."""
    _set_status(token, CardAct.CLOSE, reason, as_json=as_json)


@app.command(
    "limits", epilog="Example: faregate payments limits crd_01J3R2J7F1TQ0K6W6N8A4X9V7R USD:200000:500000"
)
def limits(
    token: Token,
    limit: Annotated[
        list[str], typer.Argument(help="CURRENCY:TRANSACTION:DAY in minor units, each currency once.")
    ],
    as_json: Json = False,
) -> None:
    """Replace a card's limits; it does not pay in another currency."""
    wanted = [_limit(text) for text in limit]
    changed = in_transaction(
        lambda payments, conn: payments.desk.set_limits(conn, token, wanted, by=OPERATOR)
    )
    print_rows([card_row(changed)], as_json=as_json)


@app.command("number", epilog="Example: faregate payments number crd_01J3R2J7F1TQ0K6W6N8A4X9V7R --generate")
def number(
    token: Token,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make a number of the test range, and print it this once.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Give a card its number, which is asked for and kept nowhere: a keyed hash finds the card by it."""
    given = None if generate else checked_number(typer.prompt("Card number", hide_input=True, err=True))

    async def act(payments: PaymentsApi, conn: Any) -> tuple[Card, str | None]:
        made = payments.desk.make_number() if given is None else given
        card = await payments.desk.give_number(conn, token, made, by=OPERATOR)
        return card, made.digits if given is None else None

    changed, made = in_transaction(act)
    row = card_row(changed) | ({"number": made} if made else {})
    print_rows([row], as_json=as_json)


@app.command("degraded", epilog="Example: faregate payments degraded --since 2026-11-27 --json")
def degraded(
    since: Annotated[datetime, typer.Option(help="From this instant on, in UTC.")],
    limit: Many = 1_000,
    counts: Annotated[bool, typer.Option("--counts", help="Only how many there are, by cell.")] = False,
    as_json: Json = False,
) -> None:
    """List the decisions that were made without a whole answer of the scorer: what was missing, which cell decided."""
    begin = since.replace(tzinfo=UTC) if since.tzinfo is None else since

    async def act(payments: PaymentsApi) -> Sequence[Any]:
        if counts:
            return await payments.degraded_counts(begin)
        return [asdict(one) for one in await payments.degraded(begin, limit=limit)]

    print_rows(on_payments(act), as_json=as_json)


def _set_status(token: str, act: CardAct, reason: str, *, as_json: bool) -> None:
    changed = in_transaction(
        lambda payments, conn: payments.desk.set_status(conn, token, act, reason=reason, by=OPERATOR)
    )
    print_rows([card_row(changed)], as_json=as_json)


def _limit(text: str) -> Limit:
    currency, *amounts = text.split(":")
    if len(amounts) != 2 or not all(amount.isdecimal() for amount in amounts):
        raise ArgumentRefused(f"{text!r} is no limit: write USD:200000:500000")
    transaction, day = map(int, amounts)
    return Limit(currency=currency, transaction_minor_max=transaction, day_minor_max=day)
