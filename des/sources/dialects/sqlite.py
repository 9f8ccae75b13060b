"""SQLite, as Python has it."""

import sqlite3
from typing import Any, ClassVar, Final

from sqlalchemy import URL, ColumnElement, Connection, Engine, Select, Table, event

from des.sources.config import DatabaseConfig
from des.sources.dialects.base import Dialect, Fault, expression_ms

READ_ONLY: Final = "des_read_only"
"""Execution option of a transaction that only reads."""
_PRIMARY: Final = 0xFF
_UNAVAILABLE: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL})
_REFUSED: Final = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH})
_ROW: Final = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})


class Sqlite(Dialect):
    """`BEGIN IMMEDIATE`: one writer at a time, so a claim needs no locks on rows."""

    driver: ClassVar[str] = "sqlite+pysqlite"
    module: ClassVar[str] = "sqlite3"
    extra: ClassVar[str] = ""

    def url(self, config: DatabaseConfig) -> URL:
        """Name the file through a URI, so that one that is not there is an error and no new database."""
        path = str(config.path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        return URL.create(self.driver, database=f"file:{path}", query={"uri": "true", "mode": "rw"})

    def connect_arguments(self, config: DatabaseConfig) -> dict[str, Any]:
        """Wait for the one writer; begin nothing by itself, which would be a deferred transaction."""
        return {
            "timeout": config.pool.statement_timeout_s,
            "isolation_level": None,
            "check_same_thread": False,
        }

    def prepare(self, engine: Engine, config: DatabaseConfig) -> None:
        """Begin as the one writer, before anything is read that a write depends on."""
        del config

        def begin(connection: Connection) -> None:
            if not connection.get_execution_options().get(READ_ONLY):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        event.listen(engine, "begin", begin)

    def now_ms(self) -> ColumnElement[int]:
        """A Julian day times 86,400,000 fits a double's 53 bits; the constant is 1970-01-01."""
        return expression_ms("(CAST(ROUND(julianday('now') * 86400000.0) AS INTEGER) - 210866760000000)")

    def locking(self, columns: Any, table: Table, conditions: Select[Any], limit: int) -> Select[Any]:
        """The transaction is the lock."""
        del table
        return conditions.with_only_columns(*columns).limit(limit)

    def classify_driver_error(self, error: BaseException | None) -> Fault:
        """By SQLite's primary result code."""
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Fault.ROLLED_BACK
        if code in _UNAVAILABLE:
            return Fault.UNAVAILABLE
        if code in _REFUSED:
            return Fault.REFUSED
        if code in _ROW or isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
            return Fault.ROW
        return Fault.OTHER
