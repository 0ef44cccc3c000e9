"""Brings a database to the newest version. The SQL itself stands in `migrations/versions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import psycopg

from faregate.infra.database import Connection
from faregate.kernel.errors import UnavailableError

_LOCK_KEY = 0x66617265  # "fare": one migration at a time in a database, whoever starts it


class SchemaBehind(UnavailableError):
    """The database lacks migrations that this code needs, and this login may not run them."""


def migrations_folder() -> Path:
    """The folder of Alembic's `env.py`: inside the package when installed, beside `src` in a work tree."""
    installed = Path(__file__).parents[1] / "migrations"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "migrations"


def newest_revision() -> str:
    """The number of the last migration file: known without importing Alembic, which takes 0.2 s."""
    return max(path.name[:4] for path in (migrations_folder() / "versions").glob("[0-9]*.py"))


def run_sql_beside(file: str) -> None:
    """Run the `.sql` file beside a migration as plain SQL (a `%` is a `%`), then drop any role it took."""
    from alembic import op

    sql = Path(file).with_suffix(".sql").read_text(encoding="utf-8")
    driver = cast(Any, op.get_bind().connection.dbapi_connection)
    driver.execute(sql)
    driver.execute("reset role")


async def is_current(connection: Connection) -> bool:
    """Whether the database stands at the newest version that this code knows."""
    try:
        cursor = await connection.execute("select version_num from public.alembic_version")
    except psycopg.errors.UndefinedTable:
        return False
    row = await cursor.fetchone()
    return row is not None and row["version_num"] == newest_revision()


def migrate(url: str) -> None:
    """Bring the database up to date; several processes may do so at once. Nothing to do costs ~3 ms.

    A login that may not is only told whether it can go on: SchemaBehind. A database that is ahead of this code is as
    good as one that is current: migrations run before the code is deployed that needs them.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        if _is_enough(revision := _revision_of(connection)):
            return
        if not _may_migrate(connection):
            raise SchemaBehind(
                f"the database is at revision {revision or 'none'} and must be at {newest_revision()}: "
                f"run `faregate database migrate` as its administrator"
            )
        connection.execute("select pg_advisory_lock(%s)", (_LOCK_KEY,))
        if not _is_enough(_revision_of(connection)):
            _upgrade(url)


def _is_enough(revision: str | None) -> bool:
    return revision is not None and revision >= newest_revision()


def _may_migrate(connection: psycopg.Connection) -> bool:
    """Migrations make schemas: for that alone one must own the database, or have been given the right to."""
    row = connection.execute("select has_database_privilege(current_database(), 'create')").fetchone()
    return row is not None and bool(row[0])


def _revision_of(connection: psycopg.Connection) -> str | None:
    try:
        row = connection.execute("select version_num from public.alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return row[0] if row else None


def _upgrade(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["url"] = url
    command.upgrade(config, "head")
