"""`faregate points`: accounts, operations and statements of members, corrections, and whether all adds up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from uuid import uuid4

import typer
from rich.progress import Progress

from faregate.entrypoints.arguments import words
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site
from faregate.infra.chain.anchors import require_anchors
from faregate.infra.chain.check import require_links
from faregate.infra.clock import SystemClock
from faregate.kernel.errors import ConflictError, InvalidError
from faregate.points.contracts.ledger import (
    AccountStatus,
    Adjust,
    KeyReused,
    Operation,
    Request,
    SetFloor,
    SetStatus,
)

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.points.api import PointsApi
    from faregate.points.contracts.programme import EarnQuote
    from faregate.points.domain.programme import Programme
    from faregate.points.handlers.liability import Liability

Result = TypeVar("Result")

app = typer.Typer(
    no_args_is_help=True,
    help="The points ledger: accounts, statements, corrections, and whether it adds up.",
    epilog="Example: faregate points show mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R",
)

MemberId = Annotated[str, typer.Argument(help="Id of the member: mbr_….")]
Number = Annotated[int, typer.Argument(help="Number of the operation.")]
By = Annotated[str, typer.Option(help="Who you are; it is recorded.", callback=words(100))]
Reason = Annotated[
    str, typer.Option(help="Why, in one word such as entered_twice; it is recorded.", callback=words(200))
]
Anchors = Annotated[
    Path | None, typer.Option(help="File of anchors; unset: points-anchors.jsonl in the home folder.")
]
Key = Annotated[str | None, typer.Option(help="Makes it happen at most once; a new one if not given.")]


class LedgerRefused(ConflictError):
    """The ledger refused the operation."""


class TierUnknown(InvalidError):
    """The programme declares no tier of this name."""


@app.command("show", epilog="Example: faregate points show mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R --json")
def show(member_id: MemberId, as_json: Json = False) -> None:
    """Show an account: its balances, what expires when, and what is held."""
    found = _run(lambda points: points.account(member_id))
    if as_json:
        echo_json({**asdict(found), "available": found.balance.available})
        return
    balance = {**asdict(found.balance), "available": found.balance.available}
    print_rows([{"member": member_id, "status": found.status, **balance}], as_json=False)
    print_rows(
        [{"expires on": one.expires_on or "never", "points": one.amount} for one in found.expiries],
        as_json=False,
    )
    print_rows(
        [{"hold": one.no, "points": one.amount, "until": one.expires_at} for one in found.holds],
        as_json=False,
    )


@app.command(
    "operations", epilog="Example: faregate points operations mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R --limit 20"
)
def operations(
    member_id: MemberId,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Go on before this operation.")] = None,
    as_json: Json = False,
) -> None:
    """List the operations of a member, the newest first."""
    page = _run(lambda points: points.operations(member_id, before=before, limit=limit))
    print_rows([_row(one) for one in page.operations], as_json=as_json)


@app.command(
    "statement",
    epilog="Example: faregate points statement mbr_01J… --since 2026-01-01 --until 2026-04-01 --format pdf -o q1.pdf",
)
def statement(
    member_id: MemberId,
    since: Annotated[datetime, typer.Option(help="Where it begins, in UTC.")],
    until: Annotated[datetime, typer.Option(help="Before which it ends, in UTC.")],
    form: Annotated[Literal["json", "csv", "pdf"], typer.Option("--format", help="What to write.")] = "json",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; else printed.")
    ] = None,
) -> None:
    """Write what happened in a period; each spend with the earns that it came from."""
    from faregate.points.routes.statement_files import FILES

    begin, end = (instant.replace(tzinfo=instant.tzinfo or UTC) for instant in (since, until))
    file = FILES[form](_run(lambda points: points.statement(member_id, since=begin, until=end)))
    if output is None:
        typer.get_binary_stream("stdout").write(file)
    else:
        output.write_bytes(file)
        typer.echo(f"wrote {output}")


@app.command("adjust", epilog="Example: faregate points adjust mbr_01J… -500 --reason entered_twice --by ann")
def adjust(
    member_id: MemberId,
    amount: Annotated[int, typer.Argument(help="Points to add; negative takes away (after `--`).")],
    reason: Reason,
    by: By,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Correct a balance. A large correction waits for `approve` by somebody else."""
    _do(Adjust(key=_key(key), by=by, member_id=member_id, amount=amount, reason=reason), as_json=as_json)


@app.command("approve", epilog="Example: faregate points approve 4711 --by bob")
def approve(number: Number, by: By, as_json: Json = False) -> None:
    """Do a correction that was refused because it needs a second person, as that person."""
    _print(_run(lambda points: points.approve(number, by=by)), as_json=as_json)


@app.command("status", epilog="Example: faregate points status mbr_01J… frozen --reason card_stolen --by ann")
def set_status(
    member_id: MemberId,
    status: Annotated[AccountStatus, typer.Argument(help="What the account becomes.")],
    reason: Reason,
    by: By,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Freeze, open or close an account."""
    _do(SetStatus(key=_key(key), by=by, member_id=member_id, status=status, reason=reason), as_json=as_json)


@app.command("floor", epilog="Example: faregate points floor mbr_01J… 1000 --reason deposit --by ann")
def set_floor(
    member_id: MemberId,
    floor: Annotated[int, typer.Argument(min=0, help="Points that must stay available.")],
    reason: Reason,
    by: By,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Set what must stay available after a debit."""
    _do(SetFloor(key=_key(key), by=by, member_id=member_id, floor=floor, reason=reason), as_json=as_json)


@app.command("reconcile", epilog="Example: faregate points reconcile --json")
def reconcile(
    member: Annotated[list[str] | None, typer.Option(help="Only this member; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Check that entries, balances, lots, holds and reversals add up; exit status 1 if not."""
    if member:
        _run(lambda points: _require_accounts(points, member))
    with Progress(transient=True, disable=as_json) as progress:
        task = progress.add_task("accounts", total=None)
        found = _run(
            lambda points: points.reconcile(
                member_ids=member, on_progress=lambda done: progress.update(task, completed=done)
            )
        )
    if as_json:
        echo_json({**asdict(found), "is_clean": found.is_clean})
    else:
        for name, sentences in found.breaks.items():
            for sentence in sentences:
                typer.echo(f"{name}: {sentence}")
        for layer in found.unbalanced:
            typer.echo(f"the entries do not add up to 0 in {layer}")
        typer.echo(
            f"{found.accounts:,} accounts, {found.operations:,} operations: {_verdict(found.is_clean)}"
        )
    if not found.is_clean:
        raise typer.Exit(1)


@app.command("liability", epilog="Example: faregate points liability --json")
def liability(as_json: Json = False) -> None:
    """Show what is owed for outstanding points by month; exit status 1 if lots and balances do not agree."""

    async def act(stack: AsyncExitStack, site: Site) -> Liability:
        from faregate.entrypoints.bootstrap.points import points_api, valuation_of

        database = await site.database(stack, "points", connections_max=1)
        points = await points_api(stack, site, database=database)
        return await points.liability(valuation=valuation_of(site.settings))

    found = on_site(act)
    if as_json:
        echo_json({**asdict(found), "is_reconciled": found.is_reconciled})
    else:
        print_rows([asdict(line) for line in found.report.lines], as_json=False)
        typer.echo(
            f"{found.report.points:,} points, {found.report.expected:,} expected to be spent, worth"
            f" {found.report.value_minor / 100:,.2f}: {found.report.current_minor / 100:,.2f} within a year;"
            f" {found.overdue:,} more are over."
        )
        typer.echo(f"Of all points whose day is over {found.breakage_seen_bp / 100:.2f} % were never spent.")
    if not found.is_reconciled:
        raise LedgerRefused(
            f"the lots hold {found.report.points + found.overdue} points, the balances {found.posted}"
        )


@app.command(
    "revenue", epilog="Example: faregate points revenue 9000 --redeemed 8500 --expected 9900 --so-far 4175"
)
def revenue(
    deferred: Annotated[int, typer.Argument(min=0, help="What was deferred for points, in minor units.")],
    redeemed: Annotated[int, typer.Option(min=0, help="Points redeemed in all, up to now.")],
    expected: Annotated[int, typer.Option(min=1, help="Points that are now expected to be redeemed in all.")],
    so_far: Annotated[int, typer.Option(min=0, help="Revenue recognised in the periods before.")] = 0,
    as_json: Json = False,
) -> None:
    """Show what becomes revenue by IFRS 15 now: the cumulative share, less what was recognised before."""
    from faregate.points.domain.liability import Deferred, recognised

    after = recognised(Deferred(allocated=deferred, recognised=so_far), redeemed=redeemed, expected=expected)
    row = {
        "recognised": after.recognised,
        "now": after.recognised - so_far,
        "deferred": deferred - after.recognised,
    }
    print_rows([row], as_json=as_json)


@app.command("quote", epilog="Example: faregate points quote 12.50 --category 5812 --tier gold")
def quote(
    amount: Annotated[float, typer.Argument(min=0, max=1e12, help="What is paid, in units of the currency.")],
    category: Annotated[int, typer.Option(min=0, max=9999, help="Merchant category code.")] = 5999,
    tier: Annotated[str, typer.Option(help="Tier of who pays.")] = "",
    on: Annotated[datetime | None, typer.Option(help="Day of the purchase; today if not given.")] = None,
    is_first: Annotated[bool, typer.Option("--first", help="It is the first purchase.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a purchase would earn by the active earn rules and the programme, part by part."""
    from faregate.points.contracts.programme import Earner, Purchase

    async def act(stack: AsyncExitStack, site: Site) -> EarnQuote:
        from faregate.entrypoints.bootstrap.points import load_programme, noon, quote_now

        programme = load_programme(site.settings)
        purchase = Purchase(
            amount_minor=round(amount * programme.minor_per_unit),
            merchant_category=category,
            occurred_at=noon(on.date(), site.settings) if on else SystemClock().now(),
        )
        earner = Earner(tier=_tier(programme, tier), is_first_purchase=is_first)
        database = await site.database(stack, "points", connections_max=1)
        return await quote_now(database, site.settings, purchase=purchase, earner=earner)

    found = on_site(act)
    if as_json:
        echo_json(asdict(found))
        return
    print_rows([asdict(part) for part in found.parts], as_json=False)
    typer.echo(
        f"{found.points:,} points by {found.rules} and {found.version}, {found.qualifying:,} of them for tiers"
    )


@app.command("verify", epilog="Example: faregate points verify --anchors /mnt/elsewhere/points-anchors.jsonl")
def verify(anchors: Anchors = None, as_json: Json = False) -> None:
    """Walk along the chain over all operations; name the first row that is not as it was sealed, and exit 1."""
    file = anchors and require_anchors(anchors)
    report = _run(lambda points: points.verify(anchor_file=file))
    if as_json:
        echo_json(asdict(report))
    else:
        typer.echo(
            f"{report.links:,} links hold, {report.anchors} anchors compared, {report.unsealed:,} operations not"
            f" sealed yet (the oldest for {report.unsealed_s:.1f} s)"
        )
        if report.broken:
            typer.echo(f"broken: {report.broken}")
    if report.broken:
        raise typer.Exit(1)


@app.command("anchor", epilog="Example: faregate points anchor --anchors /mnt/elsewhere/points-anchors.jsonl")
def anchor(anchors: Anchors = None, as_json: Json = False) -> None:
    """Note the end of the chain in a file outside of the database, and print it."""
    noted = _run(lambda points: points.anchor(clock=SystemClock(), anchor_file=anchors))
    print_rows([asdict(require_links(noted))], as_json=as_json)


@app.command("chain", epilog="Example: faregate points chain --json")
def chain(as_json: Json = False) -> None:
    """Show where the chain ends, and what waits to be sealed."""
    print_rows([asdict(_run(lambda points: points.chain_end()))], as_json=as_json)


async def _require_accounts(points: PointsApi, member_ids: Sequence[str]) -> None:
    for member_id in member_ids:
        await points.account(member_id)  # raises for a member without one


def _verdict(is_clean: bool) -> str:
    return "everything adds up" if is_clean else "not everything adds up"


def _tier(programme: Programme, name: str) -> str:
    """Return the name of a tier, of the lowest for none. Raises TierUnknown."""
    known = [tier.name for tier in programme.tiers]
    if name and name not in known:
        raise TierUnknown(f"there is no tier {name!r}; there are {', '.join(known)}")
    return name or known[0]


def _do(request: Request, *, as_json: bool) -> None:
    answer = _run(lambda points: points.submit(request))
    if isinstance(answer, KeyReused):
        raise LedgerRefused(f"the key {answer.key} was used with another {answer.field}")
    _print(answer, as_json=as_json)


def _print(done: Operation, *, as_json: bool) -> None:
    from faregate.points.domain.refusals import SENTENCES

    if done.refusal is not None:
        raise LedgerRefused(f"{SENTENCES[done.refusal]} (operation {done.no})", operation=done.no)
    print_rows([_row(done)], as_json=as_json)


def _row(one: Operation) -> dict[str, Any]:
    return {
        "operation": one.no,
        "at": one.at,
        "kind": one.kind,
        "amount": one.amount,
        "subject": one.subject,
        "refusal": one.refusal,
        "posted": one.balance.posted if one.balance else None,
        "available": one.balance.available if one.balance else None,
    }


def _key(given: str | None) -> str:
    return f"cli:{given or uuid4().hex}"


def _run(act: Callable[[PointsApi], Awaitable[Result]]) -> Result:
    async def on(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.points import points_api

        database = await site.database(stack, "points", connections_max=2)
        return await act(await points_api(stack, site, database=database))

    return on_site(on)
