"""Makes the tables of the workflow engine. Ours are made by the migrations, like those of every other part."""

from __future__ import annotations

import logging
import time
from importlib.metadata import version

import psycopg

from faregate.infra.database import url_with_role

ROLE = "faregate_workflow"
SCHEMA = "dbos"
_LOCK = 0x666177666C
_POLL_S = 0.05


def prepare(url: str) -> None:
    """Make or update the engine's own tables, after migrating; safe from several processes at once.

    Costs ~3 ms when there is nothing to do, and then does not even import the engine (2 s).
    """
    with psycopg.connect(url_with_role(url, role=ROLE), autocommit=True) as connection:
        if _is_ready(connection):
            return
        while not _has_lock(connection):
            time.sleep(_POLL_S)
        if not _is_ready(connection):
            _make_tables(url)
            connection.execute(
                "insert into workflow.engine (version) values (%s) on conflict do nothing", (version("dbos"),)
            )


def _is_ready(connection: psycopg.Connection) -> bool:
    found = connection.execute("select version from workflow.engine where version = %s", (version("dbos"),))
    return found.fetchone() is not None


def _has_lock(connection: psycopg.Connection) -> bool:
    """Asked for again and again: DBOS builds indexes concurrently, which waits for every statement that runs, so a
    statement that waited for the lock would never get it."""
    row = connection.execute("select pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
    return row is not None and bool(row[0])


def _make_tables(url: str) -> None:
    from dbos import DBOS

    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    DBOS.migrate(url_with_role(url, role=ROLE), schema=SCHEMA)
