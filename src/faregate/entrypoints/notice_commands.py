"""`faregate credit notices|notice`: the notices of adverse action that are due, and what each says."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from faregate.entrypoints.arguments import words
from faregate.entrypoints.output import Json, print_rows
from faregate.entrypoints.servers import on_site, open_credit
from faregate.infra.clock import SystemClock
from faregate.kernel.errors import InvalidError

if TYPE_CHECKING:
    from faregate.credit.contracts.record import Notice
    from faregate.entrypoints.bootstrap.site import Site

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SPAN = re.compile(r"([0-9]{1,5})([dh])")


class SpanMalformed(InvalidError):
    """A span of time is a number of days or hours, such as 7d or 12h."""


class NoticeIdMalformed(InvalidError):
    """A notice is named by its application, with the decision's version after a slash if it is not the newest."""


def notices(
    due_within: Annotated[
        str | None,
        typer.Option(help="Only those that are due in this time, such as 7d or 12h; overdue ones too."),
    ] = None,
    mark_sent: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Record that this application's notice was sent (ID or ID/VERSION)."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Who sent it, for the audit trail.", callback=words(100))
    ] = "operator",
    limit: Annotated[int, typer.Option(min=1, help="Most notices to list.")] = 100,
    as_json: Json = False,
) -> None:
    """List the notices of adverse action that are still to be sent, the most urgent first; or mark one as sent."""
    if mark_sent is not None:
        _mark(mark_sent, by=by, as_json=as_json)
        return
    within = None if due_within is None else _span(due_within)

    async def act(stack: AsyncExitStack, site: Site) -> list[dict[str, object]]:
        found = await (await open_credit(stack, site)).notices.due(within=within, limit=limit)
        now = SystemClock().now()
        return [{**asdict(notice), "is_overdue": notice.due_at < now} for notice in found]

    print_rows(on_site(act), as_json=as_json)


def notice(
    application_id: Annotated[str, typer.Argument(help="A denied application.")],
    as_json: Json = False,
) -> None:
    """Print the notice of adverse action on a denied application, as text or as JSON."""

    async def act(stack: AsyncExitStack, site: Site) -> Notice:
        credit = await open_credit(stack, site)
        return await credit.adverse_action(application_id=application_id, client_id=None)

    found = on_site(act)
    typer.echo(orjson.dumps(asdict(found)).decode() if as_json else found.text.rstrip())


def _mark(named: str, *, by: str, as_json: bool) -> None:
    application_id, slash, version = named.partition("/")
    if slash and _VERSION.fullmatch(version) is None:
        raise NoticeIdMalformed(f"{named!r} is neither an application nor an application/version")

    async def act(stack: AsyncExitStack, site: Site) -> Notice:
        desk = (await open_credit(stack, site)).notices
        return await desk.mark_sent(
            application_id=application_id, version=int(version) if version else None, by=by
        )

    sent = on_site(act)
    if as_json:
        typer.echo(orjson.dumps(asdict(sent)).decode())
    else:
        typer.echo(f"{sent.application_id}/{sent.decision_version} was sent by {sent.sent_by}")


def _span(text: str) -> timedelta:
    if (found := _SPAN.fullmatch(text)) is None:
        raise SpanMalformed(f"{text!r} is no span of time: write 7d or 12h")
    number = int(found[1])
    return timedelta(days=number) if found[2] == "d" else timedelta(hours=number)
