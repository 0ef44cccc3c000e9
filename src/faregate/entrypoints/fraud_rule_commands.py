"""`faregate fraud rules|lists|labels`: rules that are tried, who passes or is blocked, what turned out to be fraud.

Rulesets are published, activated and rolled back by `faregate rules`, as all are.
"""

from __future__ import annotations

import csv
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from faregate.entrypoints.arguments import Reason
from faregate.entrypoints.fraud_commands import app
from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.rules_commands import By, Since, utc
from faregate.entrypoints.rules_files import document_in, who
from faregate.entrypoints.servers import on_site
from faregate.fraud.contracts.labels import Label
from faregate.fraud.contracts.lists import ListEntry, ListKind, ListName, NewEntry
from faregate.kernel.errors import InvalidError

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.fraud.handlers.desks import FraudDesks
    from faregate.infra.database import Connection
    from faregate.rules.compiled import HotRuleset

Result = TypeVar("Result")

rules = typer.Typer(
    no_args_is_help=True,
    help="Rules of fraud: their test cases, and what they make of the past and of live payments.",
    epilog="Example: faregate fraud rules backtest fraud-payments-1 --file payments.parquet",
)
lists = typer.Typer(
    no_args_is_help=True,
    help="Who is let pass and who is blocked, and until when.",
    epilog="Example: faregate fraud lists add block card crd_01J3… --reason 'stolen, ticket 4711'",
)
labels = typer.Typer(
    no_args_is_help=True,
    help="Which payments turned out to be frauds.",
    epilog="Example: faregate fraud labels import chargebacks.csv",
)
app.add_typer(rules, name="rules")
app.add_typer(lists, name="lists")
app.add_typer(labels, name="labels")

PAGE = 1_000
Ruleset = Annotated[str, typer.Argument(help="A published version, such as fraud-payments-2, or a file.")]
List = Annotated[ListName, typer.Argument(help="The list.", metavar="LIST")]
Kind = Annotated[ListKind, typer.Argument(help="What it is about.", metavar="KIND")]
Values = Annotated[
    list[str], typer.Argument(help="Tokens, ids or countries; never numbers of cards.", metavar="VALUE…")
]
Until = Annotated[datetime | None, typer.Option(help="Only before this instant, in UTC.")]


class LabelFileUnreadable(InvalidError):
    """A file of labels is CSV with the columns payment_id, is_fraud, source and known_at."""


@rules.command("test", epilog="Example: faregate fraud rules test my-rules.json")
def run_cases(ruleset: Ruleset, as_json: Json = False) -> None:
    """Run the test cases of a ruleset; exit 1 if one does not hold. At publishing they are run, too."""
    from faregate.fraud.domain.cases import read_cases, results_of
    from faregate.rules.compiled import compile_hot
    from faregate.rules.ruleset import canonical

    document = _document(ruleset)
    results = results_of(compile_hot(canonical(document)), read_cases(document))
    rows = [
        {"case": result.case.says, "holds": result.is_met, "why": "" if result.is_met else result.text}
        for result in results
    ]
    if as_json:
        echo_json(rows)
    else:
        print_rows([row for row in rows if not row["holds"]], as_json=False)
        typer.echo(f"{sum(result.is_met for result in results)} of {len(results)} cases hold")
    if not all(result.is_met for result in results):
        raise typer.Exit(1)


@rules.command(
    "backtest", epilog="Example: faregate fraud rules backtest my-rules.json --file payments.parquet --json"
)
def backtest(
    ruleset: Ruleset,
    file: Annotated[
        Path | None,
        typer.Option(help="Judge the payments of this Parquet, CSV or JSON-lines file, not decisions."),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int | None, typer.Option(help="So many decisions at most.", min=1)] = None,
    only_labelled: Annotated[
        bool, typer.Option("--only-labelled", help="Only payments of which it is known what they were.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a ruleset makes of past payments: confusion by number and by amount, and what each rule found."""
    from faregate.fraud.handlers.trying import BEGINNING, END, Period, on_file

    compiled = _compiled(ruleset)
    if file is not None:
        found = on_file(compiled, file, say=_say)
    else:
        period = Period(since=utc(since) or BEGINNING, until=utc(until) or END, payments_max=limit)
        found = _run(
            lambda desks, _: desks.trials.on_decisions(
                compiled, period=period, only_labelled=only_labelled, say=_say
            )
        )
    _print_confusion(found, as_json=as_json)


@rules.command(
    "benchmark-file", epilog="Example: faregate fraud rules benchmark-file payments.parquet --customers 500"
)
def benchmark_file(
    file: Annotated[Path, typer.Argument(help="The Parquet file to write.", dir_okay=False)],
    customers: Annotated[int, typer.Option(help="Of so many customers.", min=1, max=5_000)] = 500,
) -> None:
    """Write the payments of the fraud benchmark with their features and labels, for backtests of rules."""
    from faregate.bench.fraud_facts import write_benchmark_facts

    file.touch()  # a file that cannot be written is said before anything is done
    typer.echo(f"wrote {write_benchmark_facts(file, customers=customers):,} payments to {file}")


@rules.command("shadow-report", epilog="Example: faregate fraud rules shadow-report --since 2026-11-01")
def shadow_report(
    version: Annotated[
        str | None, typer.Option(help="A version that watched; unset: the one that does.")
    ] = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Show how far the rules that watch agree with those that decide, and where they do not."""
    from faregate.fraud.handlers.trying import BEGINNING, END

    found = _run(
        lambda desks, conn: desks.trials.shadow_report(
            conn,
            label=version,
            since=utc(since) or BEGINNING,
            until=utc(until) or END,
            now=desks.clock.now(),
        )
    )
    if as_json:
        echo_json(found)
        return
    rate = found["agreement_rate"]
    agreed = "" if rate is None else f", the same action of {rate:.1%}"
    typer.echo(f"{found['shadow']} watched {found['payments']:,} payments{agreed}")
    print_rows(found["matrix"], as_json=False)
    print_rows(found["differing"], as_json=False)


@rules.command("decided", epilog="Example: faregate fraud rules decided --since 2026-11-01 --json")
def decided(since: Since = None, until: Until = None, as_json: Json = False) -> None:
    """Show what each version decided and what turned out to be fraud: how a challenger does on its share."""
    from faregate.fraud.handlers.trying import BEGINNING, END

    found = _run(
        lambda desks, conn: desks.trials.share_report(
            conn, since=utc(since) or BEGINNING, until=utc(until) or END
        )
    )
    print_rows(found["decided"], as_json=as_json)


@lists.command(
    "add", epilog="Example: faregate fraud lists add block card crd_01J3… --days 30 --reason 'stolen'"
)
def add(
    name: List,
    kind: Kind,
    values: Values,
    reason: Reason,
    expires: Annotated[datetime | None, typer.Option(help="When it ends, in UTC; unset: never.")] = None,
    days: Annotated[int | None, typer.Option(help="It ends after so many days.", min=1, max=3_650)] = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Put something on a list; every process knows it within a second. What is there gets the new end and reason."""
    if expires is not None and days is not None:
        raise typer.BadParameter("give --expires or --days, not both")

    async def act(desks: FraudDesks, conn: Connection) -> Sequence[ListEntry]:
        end = utc(expires) if days is None else desks.clock.now() + timedelta(days=days)
        entries = [NewEntry(kind=kind, value=value, expires_at=end) for value in values]
        return await desks.lists.add(conn, name, entries, actor=who(by), reason=reason)

    _print_entries(_run(act, is_act=True), as_json=as_json)


@lists.command("remove", epilog="Example: faregate fraud lists remove block card crd_01J3… --reason 'found'")
def remove(
    name: List, kind: Kind, values: Values, reason: Reason, by: By = None, as_json: Json = False
) -> None:
    """Take something off a list: all that is named or, where something is not there, nothing."""
    entries = [NewEntry(kind=kind, value=value) for value in values]

    async def act(desks: FraudDesks, conn: Connection) -> None:
        await desks.lists.remove(conn, name, entries, actor=who(by), reason=reason)

    _run(act, is_act=True)
    print_rows([{"list": name.value, "kind": kind.value, "removed": len(entries)}], as_json=as_json)


@lists.command("show", epilog="Example: faregate fraud lists show block --kind card --json")
def show(
    name: Annotated[ListName | None, typer.Argument(help="Only this list.", metavar="LIST")] = None,
    kind: Annotated[ListKind | None, typer.Option(help="Only this kind.")] = None,
    value: Annotated[str | None, typer.Option(help="Only this value.")] = None,
    as_json: Json = False,
) -> None:
    """Show what stands on the lists now, who put it there and until when."""

    async def read(desks: FraudDesks, conn: Connection) -> Sequence[ListEntry]:
        found: list[ListEntry] = []
        after = ("", "", "")
        while page := await desks.lists.entries(
            conn, name=name, kind=kind, value=value, after=after, limit=PAGE
        ):
            found += page
            after = (page[-1].list, page[-1].kind, page[-1].value)
        return found

    _print_entries(_run(read), as_json=as_json)


@lists.command("history", epilog="Example: faregate fraud lists history --kind card --value crd_01J3…")
def list_history(
    name: Annotated[ListName | None, typer.Argument(help="Only this list.", metavar="LIST")] = None,
    kind: Annotated[ListKind | None, typer.Option(help="Only this kind.")] = None,
    value: Annotated[str | None, typer.Option(help="Only this value.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 50,
    as_json: Json = False,
) -> None:
    """Show what was done to the lists, by whom and why, the newest first."""
    found = _run(
        lambda desks, conn: desks.lists.history(conn, name=name, kind=kind, value=value, limit=limit)
    )
    print_rows(
        [{**asdict(one), "list": one.list.value, "kind": one.kind.value} for one in found], as_json=as_json
    )


@labels.command("import", epilog="Example: faregate fraud labels import chargebacks.csv --json")
def import_labels(
    file: Annotated[
        Path, typer.Argument(help="CSV: payment_id, is_fraud, source, known_at.", dir_okay=False)
    ],
    by: By = None,
    as_json: Json = False,
) -> None:
    """Bring what is known of payments: all of a file, or nothing. What is there already changes nothing."""
    found = list(_labels_in(file))

    async def act(desks: FraudDesks, conn: Connection) -> dict[str, int]:
        pages = [found[begin : begin + PAGE] for begin in range(0, len(found), PAGE)]
        taken = [await desks.labels.bring(conn, page, actor=who(by)) for page in pages]
        return {"new": sum(one.new for one in taken), "known": sum(one.known for one in taken)}

    print_rows([_run(act, is_act=True)], as_json=as_json)


@labels.command("show", epilog="Example: faregate fraud labels show pay_01J3…")
def show_labels(
    payment: Annotated[str, typer.Argument(help="Id of the payment.")], as_json: Json = False
) -> None:
    """Show what is known of a payment, the newest first: that one counts."""
    found = _run(lambda desks, conn: desks.labels.of_payment(conn, payment))
    print_rows([asdict(label) for label in found], as_json=as_json)


def _run(act: Callable[[FraudDesks, Connection], Awaitable[Result]], *, is_act: bool = False) -> Result:
    """Do something at the desks; what changes something (`is_act`) in one transaction."""

    async def on_desks(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.fraud_rules import fraud_desks

        desks = await fraud_desks(stack, site)
        async with desks.database.transaction() if is_act else desks.database.connection() as conn:
            return await act(desks, conn)

    return on_site(on_desks)


def _document(named: str) -> dict[str, Any]:
    """Return the ruleset in the file of this name, or the published version of this label."""
    from faregate.rules import api
    from faregate.rules.ruleset import parse_label

    if (file := Path(named)).is_file():
        return document_in(file)
    name, version = parse_label(named)
    return _run(lambda _, conn: api.document_of(conn, name=name, version=version))


def _compiled(named: str) -> HotRuleset:
    """Return a ruleset ready to judge payments. Raises RulesetRefused for a file that could not be published."""
    from faregate.entrypoints.bootstrap.rulesets import check
    from faregate.fraud.domain.rule_check import FRAUD
    from faregate.fraud.handlers.trying import NotOfFraud
    from faregate.infra.settings import Settings
    from faregate.rules.checks import refuse_errors
    from faregate.rules.compiled import compile_hot
    from faregate.rules.ruleset import canonical

    document = _document(named)
    if document.get("name") != FRAUD:
        raise NotOfFraud(f"{document.get('name')} does not judge payments: {FRAUD} does")
    refuse_errors(check(document, Settings()))
    return compile_hot(canonical(document))


def _labels_in(file: Path) -> Iterator[Label]:
    """Yield the labels of a CSV file. Raises LabelFileUnreadable with the line."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.DictReader(lines), start=2):
                yield _label(row, where=f"{file.name}, line {number}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelFileUnreadable(f"{file} cannot be read: {error}") from error


def _label(row: Mapping[str, str | None], *, where: str) -> Label:
    said = {"true": True, "1": True, "false": False, "0": False}
    try:
        known_at = datetime.fromisoformat(row["known_at"] or "")
        return Label(
            payment_id=row["payment_id"] or "",
            is_fraud=said[(row["is_fraud"] or "").lower()],
            source=row["source"] or "",
            known_at=known_at if known_at.tzinfo else known_at.replace(tzinfo=UTC),
        )
    except (KeyError, ValueError) as error:
        raise LabelFileUnreadable(
            f"{where}: needs payment_id, is_fraud (true, false, 1 or 0), source and known_at"
        ) from error


def _print_entries(found: Sequence[ListEntry], *, as_json: bool) -> None:
    rows = [
        {
            "list": one.list.value,
            "kind": one.kind.value,
            "value": one.value,
            "expires_at": one.expires_at,
            "added_at": one.added_at,
            "added_by": one.added_by,
            "reason": one.reason,
        }
        for one in found
    ]
    print_rows(rows, as_json=as_json)


def _print_confusion(found: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo_json(found)
        return
    typer.echo(
        f"{found['candidate']} judged {found['payments']:,} payments, {found['labelled']:,} of which are labelled"
    )
    print_rows(found["matrix"], as_json=False)
    rates = [
        {"stopped": stopped.replace("_", " "), "counted": counted.replace("_", " "), **_shown(shares)}
        for stopped in ("declined", "declined_or_reviewed")
        for counted, shares in found[stopped].items()
    ]
    print_rows(rates, as_json=False)
    shown = ("rule", "action", "fraud", "genuine", "unknown", "fraud_usd_minor", "genuine_usd_minor")
    fired = [rule for rule in found["rules"] if any(rule[key] for key in ("fraud", "genuine", "unknown"))]
    print_rows([{key: rule[key] for key in shown} for rule in fired], as_json=False)
    if untold := sum(rule["untold"] > 0 for rule in found["rules"]):
        typer.echo(f"{untold} rules lack a fact of some payments and could not be told there: see --json")


def _shown(shares: Mapping[str, float | None]) -> dict[str, str]:
    return {name: "-" if share is None else f"{share:.2%}" for name, share in shares.items()}


def _say(payments: int) -> None:
    typer.echo(f"{payments:,} payments", err=True)


__all__ = ["app"]
