"""Oracle through python-oracledb, in its thin mode: no client libraries."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import URL, ColumnElement, Select, Table

from des.sources.config import DatabaseConfig
from des.sources.dialects.base import Dialect, Fault, expression_ms

# https://docs.oracle.com/error-help/db/
_ROLLED_BACK: Final = frozenset({60, 8177, 30006})
_REFUSED: Final = frozenset({1017, 1031, 1045, 12514, 28000, 28001})
_ROW: Final = frozenset({1, 1400, 1407, 1438, 1722, 2290, 2291, 2292, 12899})
_UNAVAILABLE: Final = frozenset(
    {18, 20, 28, 54, 1012, 1033, 1034, 1089, 3113, 3114, 3135, 12170, 12537, 12541}
)


class Oracle(Dialect):
    """`FOR UPDATE SKIP LOCKED`, which takes no FETCH FIRST beside it: the rows are chosen by a subquery."""

    driver: ClassVar[str] = "oracle+oracledb"
    module: ClassVar[str] = "oracledb"
    extra: ClassVar[str] = "source-oracle"

    def url(self, config: DatabaseConfig) -> URL:
        """Return where to connect; Oracle's database is a service."""
        return super().url(config).set(database="", query={"service_name": config.name})

    def connect_arguments(self, config: DatabaseConfig) -> dict[str, Any]:
        """Limit of connecting; the limit of a call is a property of the connection."""
        return {"tcp_connect_timeout": config.pool.connect_timeout_s}

    def now_ms(self) -> ColumnElement[int]:
        """To the second: a DATE minus a DATE is a number of days."""
        return expression_ms(
            "ROUND((CAST(SYS_EXTRACT_UTC(SYSTIMESTAMP) AS DATE) - DATE '1970-01-01') * 86400) * 1000"
        )

    def locking(
        self, columns: Sequence[ColumnElement[Any]], table: Table, conditions: Select[Any], limit: int
    ) -> Select[Any]:
        """ORA-02014 forbids FOR UPDATE on a limited query, so the limit stands in a subquery.

        The conditions stand outside too: a row that changed between choosing and locking is passed over.
        """
        (key,) = conditions.selected_columns
        chosen = conditions.limit(limit).scalar_subquery()
        return (
            conditions.with_only_columns(*columns)
            .where(table.c[key.name].in_(chosen))
            .with_for_update(skip_locked=True)
        )

    def classify_driver_error(self, error: BaseException | None) -> Fault:
        """By the ORA number; the driver's own errors start with DPY."""
        details = error.args[0] if error is not None and error.args else None
        number = getattr(details, "code", 0)
        if number in _ROLLED_BACK:
            return Fault.ROLLED_BACK
        if number in _REFUSED:
            return Fault.REFUSED
        if number in _ROW or type(error).__name__ in {"IntegrityError", "DataError"}:
            return Fault.ROW
        if number in _UNAVAILABLE or str(getattr(details, "full_code", "")).startswith("DPY-"):
            return Fault.UNAVAILABLE
        return Fault.OTHER
