"""Login roles: who a process is to PostgreSQL, and which of faregate's own roles it may become, and no others.

Those own roles (`faregate_credit`, …) cannot log in. A login inherits nothing of them: it may only become one by
`SET ROLE`, as every connection does when it begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import psycopg
from psycopg import sql

from faregate.infra.database import ROLE_PREFIX
from faregate.kernel.errors import ForbiddenError, NotFoundError

_ANYBODY = "faregate_app"
"""What every part inherits: it may connect, read the schema's version, and call what is there for all."""
_LOCK = 7233173  # roles belong to the whole server: see migration 0001


class RolesNotGranted(ForbiddenError):
    """The login of this process may not become a role that the process needs."""


class LoginUnknown(NotFoundError):
    """No process has a login of this name."""


def require_roles(url: str, parts: Sequence[str]) -> None:
    """Return if whoever logs in by this URL may become all of these parts. Raises RolesNotGranted."""
    query = "select part from unnest(%s::text[]) part where not pg_has_role(%s || part, 'set') order by part"
    with psycopg.connect(url, autocommit=True) as connection:
        missing = [row[0] for row in connection.execute(query, (list(parts), ROLE_PREFIX))]
        login = connection.info.user
    if missing:
        names = ", ".join(f"{ROLE_PREFIX}{part}" for part in missing)
        raise RolesNotGranted(
            f"{login} may not become {names}; `faregate database roles` tells who may be what"
        )


def existing_logins(url: str, names: Collection[str]) -> set[str]:
    """Return those of the logins that exist."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("select rolname from pg_roles where rolname = any (%s)", (list(names),))
        return {row[0] for row in found}


def make_logins(url: str, wanted: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Make each login, or change it, so that it has this password and may become these parts and no others.

    `url` is an administrator's, who may create roles and has made faregate's own. Running processes are not disturbed.
    """
    with psycopg.connect(url) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        for login, (password, parts) in wanted.items():
            _set_password(connection, login, password)
            _set_memberships(connection, login, {f"{ROLE_PREFIX}{part}" for part in parts})


def _set_password(connection: psycopg.Connection, login: str, password: str) -> None:
    """Give a login, made if it is not there, a password that no log of the server can show."""
    exists = connection.execute("select 1 from pg_roles where rolname = %s", (login,)).fetchone()
    verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")
    verb = "alter" if exists else "create"
    connection.execute(
        sql.SQL("{} role {} login noinherit password {}").format(
            sql.SQL(verb), sql.Identifier(login), sql.Literal(verifier.decode())
        )
    )


def _set_memberships(connection: psycopg.Connection, login: str, wanted: Collection[str]) -> None:
    held = connection.execute(
        "select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid "
        "where m.member = %s::regrole",
        (login,),
    )
    for role in {row[0] for row in held} - {_ANYBODY, *wanted}:
        connection.execute(sql.SQL("revoke {} from {}").format(sql.Identifier(role), sql.Identifier(login)))
    grant = sql.SQL("grant {} to {} with inherit {}, set {}")
    yes, no = sql.SQL("true"), sql.SQL("false")
    connection.execute(grant.format(sql.Identifier(_ANYBODY), sql.Identifier(login), yes, no))
    for role in sorted(wanted):
        connection.execute(grant.format(sql.Identifier(role), sql.Identifier(login), no, yes))
