"""The one way to PostgreSQL: a pool whose connections act as one role. SQL belongs in a `queries.sql`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, LiteralString
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from faregate.kernel.errors import UnavailableError

Statement = tuple[LiteralString, Mapping[str, Any]]
Connection = psycopg.AsyncConnection[Any]
"""A connection whose rows are dicts. Parts that may not import the driver annotate with this."""

ROLE_PREFIX = "faregate_"
"""Begins the name of the role of each part."""
OPEN_TIMEOUT_S = 10.0
POOL_WAIT_S = 5.0
RETRY_AFTER_S = 1.0
RECONNECT_ROUND_S = 0.25
"""How long one connection is tried for, and so how late a database that is back is noticed.

The pool would begin with a pause of a second and double it: minutes after a long outage. Who gives up is taken out
of the pool's count, so that in an outage each pool tries only one connection a round, and only while somebody waits.
"""

_LOST = (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout)


class DatabaseUnavailable(UnavailableError):
    """PostgreSQL did not answer: it is down, restarting, or every pooled connection is in use."""


def url_with_role(url: str, *, role: str) -> str:
    """Return the URL with start-up options that make every session act as `role` from its first statement."""
    parts = dict(conninfo_to_dict(url))
    options = " ".join(filter(None, [str(parts.pop("options", "") or ""), f"-c role={role}"]))
    user = quote(str(parts.pop("user", "") or ""), safe="")
    password = parts.pop("password", None)
    secret = f":{quote(str(password), safe='')}" if password else ""
    login = f"{user}{secret}@" if user else ""
    name = quote(str(parts.pop("dbname", "") or ""), safe="")
    rest = "".join(f"&{key}={quote(str(value), safe='')}" for key, value in parts.items() if value)
    return f"postgresql://{login}/{name}?options={quote(options, safe='')}{rest}"


class PooledConnection(psycopg.AsyncConnection[dict[str, Any]]):
    """A connection of a `Database`. `last` holds the statements that go out together with the COMMIT.

    None where none may wait so long: outside of `Database.transaction`, and in a savepoint, which may be undone alone.
    """

    last: list[Statement] | None = None

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Begin a transaction, or a savepoint inside of one, in which no statement waits."""
        waiting, self.last = self.last, None
        try:
            async with super().transaction(savepoint_name, force_rollback) as transaction:
                yield transaction
        finally:
            self.last = waiting


async def execute_last(conn: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> None:
    """Run a statement whose result nobody needs: at the end of a transaction, without a round trip of its own.

    It fails as a COMMIT fails: nothing of the transaction stays. Where it cannot wait it runs at once.
    """
    if isinstance(conn, PooledConnection) and conn.last is not None:
        conn.last.append((query, parameters))
    else:
        await conn.execute(query, parameters)


@contextmanager
def gathering_last(conn: Connection) -> Iterator[list[Statement]]:
    """Let the last statements of a transaction wait, and yield the list of them for whoever commits (`commit_with`)."""
    if not isinstance(conn, PooledConnection):
        yield []
        return
    conn.last = []
    try:
        yield conn.last
    finally:
        conn.last = None


async def commit_with(conn: Connection, last: Sequence[Statement]) -> None:
    """Send the last statements and the COMMIT as one query of several statements: the first that fails ends it."""
    cursor = psycopg.AsyncClientCursor(conn)
    statements = [*(cursor.mogrify(query, given) for query, given in last), "commit"]
    await cursor.execute(";\n".join(statements).encode())


async def _roll_back(connection: PooledConnection) -> None:
    """Undo a transaction, unless its connection is lost: then it is undone. The pool deals with what is left open."""
    with suppress(psycopg.Error):
        if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
            await connection.execute("rollback")


async def _try_again(pool: AsyncConnectionPool[PooledConnection]) -> None:
    """Begin the next round: a pool that gave up would leave those who wait for it to their time-out."""
    await pool.check()


class Database:
    """A pool of connections to one database, all acting as one role. Make it with `Database.open`."""

    def __init__(self, *, url: str, role: str, pool: AsyncConnectionPool[PooledConnection]) -> None:
        self.url = url
        self.role = role
        self._pool = pool
        self._waiting: dict[object, float] = {}  # since when, oldest first

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        role: str,
        connections_max: int = 10,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        must_answer: bool = True,
    ) -> Database:
        """Connect as `role` (`faregate_credit`); a server that does not answer is DatabaseUnavailable.

        One that need not answer yet is connected to in the background, as after an outage.
        """
        pool: AsyncConnectionPool[PooledConnection] = AsyncConnectionPool(
            url_with_role(url, role=role),
            connection_class=PooledConnection,
            kwargs={"autocommit": True, "row_factory": dict_row, "application_name": role},
            min_size=1,
            max_size=connections_max,
            timeout=POOL_WAIT_S,
            reconnect_timeout=RECONNECT_ROUND_S,
            reconnect_failed=_try_again,
            open=False,
            name=role,
        )
        try:
            await pool.open(wait=must_answer, timeout=open_timeout_s)
        except PoolTimeout as error:
            await pool.close()
            raise DatabaseUnavailable(f"no connection as {role}: {error}") from error
        return cls(url=url, role=role, pool=pool)

    async def close(self) -> None:
        """Close every connection; those in use are closed when they come back."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PooledConnection]:
        """Lend a connection on which each statement commits by itself."""
        lent: PooledConnection | None = None
        waiter = object()
        self._waiting[waiter] = time.monotonic()
        try:
            async with self._pool.connection() as lent:
                del self._waiting[waiter]
                yield lent
        except (PoolTimeout, PoolClosed) as error:
            detail = f"no free connection as {self.role}: {error}"
            raise DatabaseUnavailable(detail, retry_after_s=RETRY_AFTER_S) from error
        except _LOST as error:
            if lent is None or not lent.broken:
                raise
            # The others in the pool were most likely lost too: replace them before anybody gets one.
            await self._pool.check()
            detail = f"the connection as {self.role} was lost: {error}"
            raise DatabaseUnavailable(detail, retry_after_s=RETRY_AFTER_S) from error
        finally:
            self._waiting.pop(waiter, None)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside one transaction: commit at the end, roll back on any error."""
        async with self.connection() as connection:
            await connection.execute("begin")
            try:
                with gathering_last(connection) as last:
                    yield connection
                    await commit_with(connection, last)
            except psycopg.Rollback:
                await _roll_back(connection)
            except BaseException:
                await _roll_back(connection)
                raise

    async def connect(self) -> Connection:
        """Open a connection outside the pool, for LISTEN or for session locks. The caller closes it."""
        return await psycopg.AsyncConnection.connect(
            url_with_role(self.url, role=self.role), autocommit=True, row_factory=dict_row
        )

    def waited_s(self) -> float:
        """Return for how long whoever waits longest has been waiting for a connection; 0 when nobody does."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    @property
    def statistics(self) -> Mapping[str, int]:
        """The pool's counters, for metrics (`pool_size`, `pool_available`, `requests_waiting`, …)."""
        return self._pool.get_stats()
