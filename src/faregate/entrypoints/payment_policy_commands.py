"""`faregate payments policy`: what is done when the scorer cannot say, as a file that is set and taken back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faregate.entrypoints.arguments import Reason
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.payment_desk import By, in_transaction, on_payments
from faregate.entrypoints.rules_files import who
from faregate.kernel.errors import InvalidError
from faregate.payments.contracts.payments import AMOUNT_MAX, PaymentChannel
from faregate.payments.contracts.policy import ScorerState
from faregate.payments.contracts.scoring import ScorerAction
from faregate.payments.domain.policy import read_policy

if TYPE_CHECKING:
    from faregate.payments.api import PaymentsApi
    from faregate.payments.contracts.policy import PolicyVersion

policy = typer.Typer(
    no_args_is_help=True,
    help="The payment policy: show, set, go back, try.",
    epilog="Example: faregate payments policy show > policy.json",
)

PolicyFile = Annotated[Path, typer.Argument(help="A whole policy as JSON.", exists=True, dir_okay=False)]


class PolicyFileUnreadable(InvalidError):
    """The file is no JSON object."""


@policy.command("show", epilog="Example: faregate payments policy show > policy.json")
def show(
    version: Annotated[
        int | None, typer.Option(help="This version; unset: the one that counts.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the policy, as it may be changed and set again; with --json with who set it, when and why."""
    found = on_payments(
        lambda payments: payments.policy.now() if version is None else payments.policy.version(version)
    )
    echo_json(_document(found) if as_json else found.document)


@policy.command(
    "set", epilog="Example: faregate payments policy set policy.json --reason 'bands of November'"
)
def set_policy(file: PolicyFile, reason: Reason, by: By = None, as_json: Json = False) -> None:
    """Check a policy and set it: it counts at once, in every process."""
    document = _in(file)
    read_policy(document)
    _say_set(
        in_transaction(lambda payments, conn: payments.policy.set(conn, document, by=who(by), reason=reason)),
        as_json=as_json,
    )


@policy.command("history", epilog="Example: faregate payments policy history --json")
def history(
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 20,
    as_json: Json = False,
) -> None:
    """List who set which version, when and why, the newest first."""
    found = on_payments(lambda payments: payments.policy.history(limit=limit))
    shown = ("version", "set_at", "by", "reason", "back_to", "sha256")
    print_rows([{name: row[name] for name in shown} for row in found], as_json=as_json)


@policy.command(
    "roll-back", epilog="Example: faregate payments policy roll-back 1 --reason 'declined too much'"
)
def roll_back(
    version: Annotated[int, typer.Argument(help="The version that is to count again.", min=1, max=2**31 - 1)],
    reason: Reason,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Let an earlier version count again, as a further one."""
    _say_set(
        in_transaction(
            lambda payments, conn: payments.policy.roll_back(conn, version, by=who(by), reason=reason)
        ),
        as_json=as_json,
    )


@policy.command("try", epilog="Example: faregate payments policy try --amount 5000 --state unavailable")
def try_policy(
    amount: Annotated[int, typer.Option(help="In the minor unit of the currency.", min=0, max=AMOUNT_MAX)],
    state: Annotated[ScorerState | None, typer.Option(help="What the scorer lacks; unset: each.")] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "USD",
    category: Annotated[int, typer.Option(help="Of the merchant, ISO 18245.", min=0, max=9_999)] = 5_812,
    channel: Annotated[PaymentChannel, typer.Option(help="How the card is used.")] = PaymentChannel.ONLINE,
    scored: Annotated[
        ScorerAction, typer.Option(help="What the scorer says, if it is there.")
    ] = ScorerAction.APPROVE,
    file: Annotated[
        Path | None,
        typer.Option(help="Another policy than the one that counts.", exists=True, dir_okay=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what would be done with a payment, and by which cell; nothing is done."""
    from faregate.payments.domain.policy import trial_attempt
    from faregate.payments.domain.verdict import verdict_in

    attempt = trial_attempt(
        amount_minor=amount,
        currency=currency,
        merchant_category=category,
        channel=channel,
        at=datetime.now(UTC),
    )

    async def act(payments: PaymentsApi) -> Any:
        return (await payments.policy.now()).policy

    counts = read_policy(_in(file)) if file is not None else on_payments(act)
    rows = []
    for one in [state] if state is not None else list(ScorerState):
        verdict = verdict_in(one, attempt, counts, scored=scored)
        rows.append(
            {
                "state": one.value,
                "action": verdict.action.value,
                "cell": verdict.cell,
                "message": verdict.message,
            }
        )
    print_rows(rows, as_json=as_json)


def _say_set(version: PolicyVersion, *, as_json: bool) -> None:
    if as_json:
        echo_json(_document(version))
    else:
        typer.echo(f"version {version.version} counts now")


def _document(version: PolicyVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "policy": version.document,
        "sha256": version.sha256,
        "by": version.by,
        "reason": version.reason,
        "set_at": version.set_at,
        "back_to": version.back_to,
    }


def _in(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyFileUnreadable(f"{file} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise PolicyFileUnreadable(f"{file} holds no JSON object")
    return document
