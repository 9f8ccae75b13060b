"""PostgreSQL through psycopg."""

from typing import Any, ClassVar, Final

from sqlalchemy import ColumnElement

from des.sources.config import DatabaseConfig
from des.sources.dialects.base import Dialect, Fault, expression_ms

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_ROLLED_BACK: Final = ("40001", "40P01")
_UNAVAILABLE: Final = ("08", "25006", "53", "55P03", "57")
_REFUSED: Final = ("28", "42501", "3D000")
_ROW: Final = ("22", "23")


class PostgreSql(Dialect):
    """`FOR UPDATE SKIP LOCKED`; any supported version has it."""

    driver: ClassVar[str] = "postgresql+psycopg"
    module: ClassVar[str] = "psycopg"
    extra: ClassVar[str] = "source-postgresql"

    def connect_arguments(self, config: DatabaseConfig) -> dict[str, Any]:
        """Limits of connecting, of a statement, and of a transaction that lies idle."""
        limit_ms = int(config.pool.statement_timeout_s * 1000)
        return {
            "connect_timeout": max(2, int(config.pool.connect_timeout_s)),
            "application_name": "des",
            "options": f"-c statement_timeout={limit_ms} -c lock_timeout={limit_ms} "
            f"-c idle_in_transaction_session_timeout={limit_ms}",
        }

    def now_ms(self) -> ColumnElement[int]:
        """Of the statement, not of the transaction's start."""
        return expression_ms("CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)")

    def classify_driver_error(self, error: BaseException | None) -> Fault:
        """By SQLSTATE; a connection that was refused has none, only its words."""
        state = getattr(error, "sqlstate", None) or ""
        if state in _ROLLED_BACK:
            return Fault.ROLLED_BACK
        if state.startswith(_UNAVAILABLE):
            return Fault.UNAVAILABLE
        if state.startswith(_REFUSED):
            return Fault.REFUSED
        if state.startswith(_ROW):
            return Fault.ROW
        if state:
            return Fault.OTHER
        words = str(error)
        refused = ("authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied")
        if type(error).__name__ == "OperationalError":
            return Fault.REFUSED if any(word in words for word in refused) else Fault.UNAVAILABLE
        return Fault.ROW if type(error).__name__ == "DataError" else Fault.OTHER
