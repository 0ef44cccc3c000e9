"""Login roles for tests: the URL under which a process of faregate logs in, on a server that asks for no password."""

from __future__ import annotations

from collections.abc import Callable

from faregate.entrypoints.processes import logins
from faregate.infra.logins import make_logins


def made_logins(database_url: str) -> Callable[[str], str]:
    """Make every login on the server of a superuser's URL; return what gives the URL of one."""
    make_logins(database_url, {login: ("s3cret", parts) for login, parts in logins().items()})
    return lambda login: database_url.replace("postgres@", f"{login}@")
