"""`faregate database …`: what its administrator does, so that no other process needs more than its own roles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from faregate.entrypoints.output import Json, print_rows
from faregate.entrypoints.processes import logins
from faregate.entrypoints.servers import site_of
from faregate.infra.logins import LoginUnknown, existing_logins, make_logins
from faregate.infra.migrations import newest_revision
from faregate.infra.settings import Settings
from faregate.infra.workflow.prepare import prepare
from faregate.kernel.errors import InvalidError

app = typer.Typer(
    no_args_is_help=True,
    help="The database, for its administrator: schema and login roles.",
    epilog="Example: faregate database migrate",
)


class PasswordsUnreadable(InvalidError):
    """A line of the passwords is not `LOGIN PASSWORD`."""


@app.command(
    "migrate",
    epilog="Example: faregate database migrate",
)
def migrate_command() -> None:
    """Bring the schema up to date; needs a login that may create schemas and roles."""
    with site_of(Settings()) as site:
        prepare(site.database_url)
    typer.echo(f"the database is at revision {newest_revision()}")


@app.command("roles", epilog="Example: faregate database roles --passwords passwords.txt")
def roles(
    passwords: Annotated[
        Path | None,
        typer.Option(
            help="Lines of LOGIN PASSWORD; - reads standard input. These logins are made or changed."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the login role of each process and which roles it may become; with passwords, make them so."""
    known = logins()
    with site_of(Settings()) as site:
        if passwords is not None:
            given = _passwords(passwords)
            unknown = [login for login in given if login not in known]
            if unknown:
                raise LoginUnknown(f"there is no login {unknown[0]!r}; `faregate database roles` shows all")
            make_logins(
                site.database_url, {login: (password, known[login]) for login, password in given.items()}
            )
        there = existing_logins(site.database_url, list(known))
    rows = [
        {
            "login": login,
            "process": f"faregate {' '.join(login.split('_', 3)[2:])}",
            "may become": " ".join(parts),
            "exists": "yes" if login in there else "no",
        }
        for login, parts in known.items()
    ]
    print_rows(rows, as_json=as_json)


def _passwords(path: Path) -> dict[str, str]:
    """Read the passwords by login; what is wrong is told by its line, without the line."""
    text = sys.stdin.read() if str(path) == "-" else path.read_text()
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        login, _, password = line.strip().partition(" ")
        if not password:
            raise PasswordsUnreadable(f"line {number} of the passwords is not LOGIN PASSWORD")
        found[login] = password.strip()
    return found
