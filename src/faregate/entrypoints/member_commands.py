"""`faregate members`: look at members and households, find one, erase one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site

if TYPE_CHECKING:
    from faregate.entrypoints.bootstrap.site import Site
    from faregate.members.api import MembersApi
    from faregate.members.contracts import Member

Result = TypeVar("Result")

OPERATOR = "operator"

app = typer.Typer(
    no_args_is_help=True,
    help="Members of the loyalty programme and their households.",
    epilog="Example: faregate members show mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R",
)

MemberId = Annotated[str, typer.Argument(help="Id of the member: mbr_….")]


@app.command("show", epilog="Example: faregate members show mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R --personal")
def show(
    member_id: MemberId,
    personal: Annotated[bool, typer.Option("--personal", help="Also who it is and what they like.")] = False,
    as_json: Json = False,
) -> None:
    """Show how a member stands, what they agreed to, and what was done; who they are only when asked for."""

    async def act(members: MembersApi) -> dict[str, Any]:
        member = await members.get(member_id)
        record = [asdict(entry) for entry in await members.record(member_id)]
        return {"member": _row(member, personal=personal), "record": record}

    found = _run(act)
    if as_json:
        echo_json(found)
        return
    for name, value in found["member"].items():
        typer.echo(f"{name:15} {_text(value)}")
    print_rows(found["record"], as_json=False)


@app.command("find", epilog="Example: faregate members find ada@example.com --json")
def find(
    email: Annotated[str | None, typer.Argument(help="E-mail address; asked for if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Find the member who has an e-mail address. Given as an argument, it stands in the shell's history."""
    address = email or typer.prompt("E-mail address", err=True)
    member_id = _run(lambda members: members.find_by_email(address.strip()))
    if as_json:
        echo_json({"member_id": member_id})
    else:
        typer.echo(member_id or "nobody has this address")


@app.command(
    "erase", epilog="Example: faregate members erase mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R --reason member_request"
)
def erase(
    member_id: MemberId,
    reason: Annotated[str, typer.Option(help="Why, in one word such as member_request.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy for ever what identifies a member; the id stays valid, for the ledger."""
    if not yes:
        typer.confirm(f"Erase {member_id} for ever?", abort=True, err=True)

    async def act(members: MembersApi) -> Member:
        async with members.database.transaction() as conn:
            return await members.erase(conn, member_id, reason=reason, by=OPERATOR)

    print_rows([_row(_run(act), personal=False)], as_json=as_json)


@app.command("household", epilog="Example: faregate members household mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R --json")
def household(member_id: MemberId, as_json: Json = False) -> None:
    """Show the household that a member is in: its head, who is in it, and who is invited."""
    found = _run(lambda members: members.household_of(member_id))
    rows = [
        {"household": found.id, "member": member, "is": "head" if member == found.head_id else "member"}
        for member in found.members
    ]
    invited = [
        {"household": found.id, "member": member, "is": f"invited until {ends_at:%Y-%m-%d %H:%M} UTC"}
        for member, ends_at in found.invitations.items()
    ]
    print_rows([*rows, *invited], as_json=as_json)


def _row(member: Member, *, personal: bool) -> dict[str, Any]:
    known = asdict(member)
    if not personal:
        del known["profile"], known["preferences"]
    consents = {
        said["purpose"]: "given" if said["given"] else "withdrawn" for said in known["consents"].values()
    }
    return {**known, "consents": consents}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items() if inner)
    if isinstance(value, list | tuple):
        return " ".join(str(inner) for inner in value)
    return "" if value is None else str(value)


def _run(act: Callable[[MembersApi], Awaitable[Result]]) -> Result:
    async def with_members(stack: AsyncExitStack, site: Site) -> Result:
        from faregate.entrypoints.bootstrap.members import members_api

        return await act(await members_api(stack, site))

    return on_site(with_members)
