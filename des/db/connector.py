"""The connection to the catalog's database: transactions, time limits, and what its errors mean."""

import asyncio
import os
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from des.clock import Clock, SystemClock
from des.config import CatalogSettings
from des.db.catalog import CatalogUnavailableError
from des.errors import CorruptError, DesError, ExhaustedError, InvalidInputError

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
"""One transaction. It may be run again from its start when the database rolled it back."""

ATTEMPTS_MAX: Final = 6
"""How often a transaction that the database rolled back is run."""
BACKOFF_FIRST_S: Final = 0.02
"""Longest wait before the second run; it doubles with each."""

IDLE_PER_TTL: Final = 1 / 3
"""How long a transaction may do nothing, in times to live: others renew their locks behind it, in time."""

_ACCESS: Final = "des_access"
_USED: Final = "des_used"
_PRIMARY_CODE: Final = 0xFF
_SQLITE_ROLLED_BACK: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PG_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
_PG_FULL: Final = frozenset({"53100"})
_PG_DAMAGED: Final = frozenset({"XX001", "XX002"})
_PG_LOST: Final = ("08", "25P03", "57P")
_PG_UNAVAILABLE: Final = ("25006", "28", "3D", "53", "55P03", "57")

DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
"""Schemes of URLs that are understood, and the driver of each."""


class CatalogFullError(ExhaustedError):
    """The disk of the catalog's database is full; nothing was written."""

    reason = "DISK_FULL"


class CatalogDamagedError(CorruptError):
    """The database found its own file damaged."""

    reason = "INTERNAL"


class _RolledBackError(CatalogUnavailableError):
    """The database gave up this transaction in favour of another."""


class _LostError(CatalogUnavailableError):
    """The connection went, or could not be made: whether the transaction committed is unknown."""


class DesDbConnector:
    """Runs transactions against SQLite or PostgreSQL, a bounded number at a time."""

    def __init__(
        self,
        url: str | URL,
        *,
        connections_max: int = 4,
        timeout_s: float = 10.0,
        connect_s: float | None = None,
        statement_s: float | None = None,
        lock_s: float | None = None,
        idle_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Connect nothing yet.

        Args:
            url: `sqlite:///path` or `postgresql://user:password@host/database`.
            connections_max: connections open at once.
            timeout_s: limit of one transaction, its waits and repetitions included.
            connect_s: limit of making a connection; None for `timeout_s`.
            statement_s: limit of one statement; None for `timeout_s`. PostgreSQL only: SQLite has nobody
                to wait for but writers.
            lock_s: limit of one wait for another transaction's lock; None for half of `timeout_s`.
            idle_s: how long a transaction may do nothing; None for `statement_s`. PostgreSQL only.
            clock: for the waits between attempts.

        Raises:
            InvalidInputError: the URL is not understood.
        """
        self._url = _understand(url)
        self._timeout_s = timeout_s
        lock_s = timeout_s / 2 if lock_s is None else lock_s
        statement_s = timeout_s if statement_s is None else statement_s
        self._clock = clock or SystemClock()
        self._running: set[asyncio.Task[Any]] = set()
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        # SQLite has one writer; in this process they queue here rather than by polling the file's lock.
        self._writer: AbstractAsyncContextManager[Any] = asyncio.Lock() if self._is_sqlite else nullcontext()
        self._engine = (
            _sqlite_engine(self._url, connections_max, timeout_s, lock_s=lock_s)
            if self._is_sqlite
            else _postgresql_engine(
                self._url,
                connections_max,
                timeout_s,
                connect_s=timeout_s if connect_s is None else connect_s,
                statement_s=statement_s,
                lock_s=lock_s,
                idle_s=statement_s if idle_s is None else idle_s,
            )
        )
        if self._is_sqlite:
            self._reads = self._engine
            self._writes = self._engine.execution_options(**{_ACCESS: "write"})
        else:
            self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._writes = self._engine

    @classmethod
    def sqlite(cls, path: Path, **options: Any) -> Self:
        """Return a connector of the SQLite file at `path`; it is made at the first use, with mode 0600."""
        return cls(URL.create("sqlite", database=str(path)), **options)

    @classmethod
    def configured(cls, url: str | URL, settings: CatalogSettings, *, ttl_s: float | None = None) -> Self:
        """Return a connector with the limits of `settings`.

        Args:
            url: as for `DesDbConnector`.
            settings: the limits.
            ttl_s: time to live of locks that other nodes renew beside this one; None where there are none.
        """
        return cls(
            url,
            connections_max=settings.connections_max,
            timeout_s=settings.transaction_s,
            connect_s=settings.connect_s,
            statement_s=settings.statement_s,
            lock_s=settings.lock_s,
            idle_s=None if ttl_s is None else min(settings.statement_s, ttl_s * IDLE_PER_TTL),
        )

    def __repr__(self) -> str:
        return f"DesDbConnector({self._url.render_as_string(hide_password=True)!r})"

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which only reads; each of its statements sees what was committed before it.

        Raises:
            CatalogUnavailableError: the database did not answer in time.
            CatalogDamagedError: the database found itself damaged.
        """
        return await self._run(self._reads, nullcontext(), work, repeatable=True)

    async def write(self, work: Work[T], *, repeatable: bool = True) -> T:
        """Run `work` as one transaction and commit it. On SQLite no other writer runs beside it.

        What the database rolled back (serialisation, deadlock) is run again. So is a transaction whose
        connection was lost, unless it is not `repeatable`: it may have been committed, and has to cope.

        Raises:
            CatalogUnavailableError: the database did not answer in time; whether it committed is unknown.
            CatalogFullError: the database's disk is full.
            CatalogDamagedError: the database found itself damaged.
            sqlalchemy.exc.IntegrityError: a constraint; the transaction knows what it means.
        """
        return await self._run(self._writes, self._writer, work, repeatable=repeatable)

    async def close(self) -> None:
        """Wait for the transactions under way, and give all connections back."""
        if self._running:
            await asyncio.wait(self._running)
        await self._engine.dispose()

    async def _run(
        self, engine: AsyncEngine, turn: AbstractAsyncContextManager[Any], work: Work[T], *, repeatable: bool
    ) -> T:
        """Run `work` to its end even if the caller is cancelled.

        Cancelling a driver in the middle of a statement costs the connection, and on SQLite blocks other
        writers until its thread is done; every transaction has its own time limit anyway.
        """
        task = asyncio.create_task(self._attempts(engine, turn, work, repeatable=repeatable))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen by the caller, or by nobody if it was cancelled

    async def _attempts(
        self, engine: AsyncEngine, turn: AbstractAsyncContextManager[Any], work: Work[T], *, repeatable: bool
    ) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                for attempt in range(ATTEMPTS_MAX):
                    try:
                        return await self._once(engine, turn, work, repeatable=repeatable)
                    except _RolledBackError as error:
                        failed: CatalogUnavailableError = error
                    except _LostError as error:
                        if not repeatable:
                            raise
                        failed = error
                    wait_s = BACKOFF_FIRST_S * (1 << attempt) * random.uniform(0.5, 1)  # noqa: S311  no secret
                    await self._clock.sleep(wait_s)
                raise CatalogUnavailableError(
                    f"{failed}, {ATTEMPTS_MAX} times in a row", backend="catalog"
                ) from failed
        except (TimeoutError, PoolTimeoutError) as error:
            raise CatalogUnavailableError(
                f"the catalog at {self!r} did not answer within {self._timeout_s} s", backend="catalog"
            ) from error

    async def _once(
        self, engine: AsyncEngine, turn: AbstractAsyncContextManager[Any], work: Work[T], *, repeatable: bool
    ) -> T:
        try:
            async with turn, engine.begin() as connection:
                if not repeatable:
                    await self._prove(connection)
                return await work(connection)
        except (DesError, TimeoutError, PoolTimeoutError):
            raise
        except Exception as error:
            # While connecting, drivers raise their own errors, not SQLAlchemy's.
            translated = _translate(error, repr(self))
            if translated is None:
                raise
            raise translated from error

    async def _prove(self, connection: AsyncConnection) -> None:
        """Ask a connection that may have gone, before a transaction that must not be run twice."""
        try:
            await connection.exec_driver_sql("SELECT 1")
        except Exception as error:
            if isinstance(lost := _translate(error, repr(self)), _LostError):
                raise _RolledBackError(str(lost), backend="catalog") from error  # nothing was begun
            raise


def _understand(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidInputError("catalog URL is not a URL, expected sqlite:///… or postgresql://…") from None
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise InvalidInputError(
            f"catalog URL has scheme {parsed.drivername!r}, expected one of {', '.join(DRIVERS)}"
        )
    if driver.startswith("sqlite") and parsed.database in {None, "", ":memory:"}:
        raise InvalidInputError("catalog URL names no SQLite file; the catalog must outlive the process")
    return parsed.set(drivername=driver)


def _sqlite_engine(url: URL, connections_max: int, timeout_s: float, *, lock_s: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        # Before 2.0.38 SQLAlchemy opened a connection for every transaction.
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=timeout_s,
        # Every transaction here ends by itself; one more rollback would cost a switch of threads.
        pool_reset_on_return=None,
        # None: the driver begins nothing by itself, which would be a deferred transaction.
        connect_args={"isolation_level": None, "timeout": lock_s},
    )
    path = str(url.database)

    def make_private(*_: object) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def configure(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        # FULL: with NORMAL a power cut may take back what was committed (sqlite.org/pragma.html).
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin(connection: Connection) -> None:
        # IMMEDIATE: a deferred transaction that turns to writing fails at once beside another writer.
        # Reads begin nothing, so that each statement sees the latest commit.
        if connection.get_execution_options().get(_ACCESS) == "write":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine.sync_engine, "do_connect", make_private)
    event.listen(engine.sync_engine, "connect", configure)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


def _postgresql_engine(
    url: URL,
    connections_max: int,
    timeout_s: float,
    *,
    connect_s: float,
    statement_s: float,
    lock_s: float,
    idle_s: float,
) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=timeout_s,
        connect_args={
            "timeout": connect_s,
            "command_timeout": timeout_s,
            "server_settings": {
                "application_name": "des",
                "statement_timeout": _ms(statement_s),
                "lock_timeout": _ms(lock_s),
                # Of a node that froze in a transaction: its locks must not hold up the others.
                "idle_in_transaction_session_timeout": _ms(idle_s),
            },
        },
    )

    def refuse_closed(connection: Any, record: Any, _: object) -> None:
        # What the driver knows costs nothing; pool_pre_ping is three round trips for every transaction.
        # What it does not know yet is run again, or proven first (`_prove`).
        if record.info.get(_USED) and connection.driver_connection.is_closed():
            raise DisconnectionError("the server closed it")
        record.info[_USED] = True  # not at the first use: the pool gives up after two in a row

    event.listen(engine.sync_engine, "checkout", refuse_closed)
    return engine


def _ms(seconds: float) -> str:
    return str(max(1, int(seconds * 1000)))


def _translate(error: Exception, where: str) -> Exception | None:
    """Return what a driver's error means to the caller; None leaves it as it is: a constraint or a defect."""
    if isinstance(error, IntegrityError):
        return None
    cause = error.orig if isinstance(error, DBAPIError) else error
    message = f"the catalog at {where}: {cause}"
    if isinstance(cause, sqlite3.Error):
        return _translate_sqlite(cause, message)
    state = getattr(cause, "sqlstate", None) or ""
    if state in _PG_ROLLED_BACK:
        return _RolledBackError(message, backend="catalog")
    if state in _PG_FULL:
        return CatalogFullError(message, backend="catalog")
    if state in _PG_DAMAGED:
        return CatalogDamagedError(message, backend="catalog")
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or isinstance(error, OSError) or state.startswith(_PG_LOST):
        return _LostError(message, backend="catalog")
    if state.startswith(_PG_UNAVAILABLE):
        return CatalogUnavailableError(message, backend="catalog")
    return None


def _translate_sqlite(cause: sqlite3.Error, message: str) -> Exception | None:
    code = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in _SQLITE_ROLLED_BACK:
        return _RolledBackError(message, backend="catalog")
    if code == sqlite3.SQLITE_FULL:
        return CatalogFullError(message, backend="catalog")
    if code in _SQLITE_DAMAGED:
        return CatalogDamagedError(message, backend="catalog")
    if isinstance(cause, sqlite3.OperationalError | sqlite3.InterfaceError):
        return CatalogUnavailableError(message, backend="catalog")
    return None
