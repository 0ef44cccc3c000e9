"""Brings a database to the newest version. The SQL itself stands in `migrations/versions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import psycopg

from faregate.infra.database import Connection

_LOCK_KEY = 0x66617265  # "fare": one migration at a time in a database, whoever starts it


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
    """Bring the database up to date; several processes may do so at once. Nothing to do costs ~3 ms."""
    with psycopg.connect(url, autocommit=True) as connection:
        if _revision_of(connection) == newest_revision():
            return
        connection.execute("select pg_advisory_lock(%s)", (_LOCK_KEY,))
        if _revision_of(connection) != newest_revision():
            _upgrade(url)


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
