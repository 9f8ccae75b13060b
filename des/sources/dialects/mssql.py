"""Microsoft SQL Server through pymssql."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import ColumnElement, Select, Table

from des.sources.config import DatabaseConfig
from des.sources.dialects.base import Dialect, Fault, error_number, expression_ms

# https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors
_ROLLED_BACK: Final = frozenset({1205, 1222, 3960})
_REFUSED: Final = frozenset({229, 230, 262, 4060, 18452, 18456})
_ROW: Final = frozenset({515, 547, 2601, 2627, 2628, 8115, 8152})
_UNAVAILABLE: Final = frozenset({20002, 20003, 20004, 20006, 20009, 20047, 40197, 40501, 40613})


class MsSql(Dialect):
    """`UPDLOCK, ROWLOCK, READPAST`: locks as for an update, row by row, passing over what is locked."""

    driver: ClassVar[str] = "mssql+pymssql"
    module: ClassVar[str] = "pymssql"
    extra: ClassVar[str] = "source-mssql"
    # READPAST is refused under SNAPSHOT.
    isolation: ClassVar[str | None] = "READ COMMITTED"

    def connect_arguments(self, config: DatabaseConfig) -> dict[str, Any]:
        """Limits of connecting and of a statement."""
        return {
            "login_timeout": max(1, int(config.pool.connect_timeout_s)),
            "timeout": max(1, int(config.pool.statement_timeout_s)),
        }

    def now_ms(self) -> ColumnElement[int]:
        """DATEDIFF_BIG, from SQL Server 2016."""
        return expression_ms("DATEDIFF_BIG(MILLISECOND, '1970-01-01', SYSUTCDATETIME())")

    def locking(
        self, columns: Sequence[ColumnElement[Any]], table: Table, conditions: Select[Any], limit: int
    ) -> Select[Any]:
        """SQL Server says it with hints on the table."""
        return (
            conditions.with_only_columns(*columns)
            .limit(limit)
            .with_hint(table, "WITH (UPDLOCK, ROWLOCK, READPAST)", "mssql")
        )

    def classify_driver_error(self, error: BaseException | None) -> Fault:
        """By the server's error numbers, and those of DB-Library from 20000 on."""
        number = error_number(error)
        if not number and error is not None and error.args and isinstance(error.args[0], tuple):
            number = error.args[0][0]
        if number in _ROLLED_BACK:
            return Fault.ROLLED_BACK
        if number in _REFUSED:
            return Fault.REFUSED
        if number in _ROW or type(error).__name__ in {"IntegrityError", "DataError"}:
            return Fault.ROW
        if number in _UNAVAILABLE or type(error).__name__ == "InterfaceError":
            return Fault.UNAVAILABLE
        return Fault.OTHER
