"""MySQL 8 and later through PyMySQL."""

from typing import Any, ClassVar, Final

from sqlalchemy import ColumnElement, Select, Table

from des.sources.config import DatabaseConfig
from des.sources.dialects.base import Dialect, Fault, error_number, expression_ms

# https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html
_ROLLED_BACK: Final = frozenset({1205, 1213})
_UNAVAILABLE: Final = frozenset(
    {1040, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1317, 1836, 1927, 3024, 4031}
)
_CLIENT: Final = range(2000, 2100)
"""Errors of the connection, numbered by the client."""
_REFUSED: Final = frozenset({1044, 1045, 1049, 1142, 1143, 1227, 1370, 1698})
_ROW: Final = frozenset({1022, 1048, 1062, 1264, 1265, 1292, 1364, 1366, 1406, 1451, 1452, 1644, 3819, 4025})


class MySql(Dialect):
    """`FOR UPDATE SKIP LOCKED`, from MySQL 8.0."""

    driver: ClassVar[str] = "mysql+pymysql"
    module: ClassVar[str] = "pymysql"
    extra: ClassVar[str] = "source-mysql"
    # Under REPEATABLE READ a claim would lock the gaps between rows too, and read an old snapshot.
    isolation: ClassVar[str | None] = "READ COMMITTED"

    def connect_arguments(self, config: DatabaseConfig) -> dict[str, Any]:
        """Limits of connecting and of each answer."""
        limit_s = max(1, int(config.pool.statement_timeout_s))
        return {
            "connect_timeout": max(1, int(config.pool.connect_timeout_s)),
            "read_timeout": limit_s,
            "write_timeout": limit_s,
            "charset": "utf8mb4",
        }

    def now_ms(self) -> ColumnElement[int]:
        """Counted from UTC_TIMESTAMP, which no time zone of a session shifts."""
        return expression_ms("(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)")

    def locking(self, columns: Any, table: Table, conditions: Select[Any], limit: int) -> Select[Any]:
        """MariaDB has no `OF table`; with one table neither needs it."""
        del table
        return conditions.with_only_columns(*columns).limit(limit).with_for_update(skip_locked=True)

    def classify_driver_error(self, error: BaseException | None) -> Fault:
        """By the server's error numbers, and those of the client from 2000 on."""
        number = error_number(error)
        if number in _ROLLED_BACK:
            return Fault.ROLLED_BACK
        if number in _UNAVAILABLE or number in _CLIENT:
            return Fault.UNAVAILABLE
        if number in _REFUSED:
            return Fault.REFUSED
        if number in _ROW or type(error).__name__ in {"IntegrityError", "DataError"}:
            return Fault.ROW
        # PyMySQL says (0, '') of a connection that it closed itself.
        return Fault.UNAVAILABLE if type(error).__name__ == "InterfaceError" else Fault.OTHER
