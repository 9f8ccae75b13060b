"""The database's clock: the only one that times leases and rows."""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class database_now_ms(FunctionElement[int]):  # noqa: N801  stands in statements like func.now()
    """UTC milliseconds since 1970 by the database's clock, at the moment the row is worked on."""

    type = BigInteger()
    inherit_cache = True
    name = "database_now_ms"


@compiles(database_now_ms, "sqlite")
def _sqlite(_element: database_now_ms, _compiler: SQLCompiler, **_: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42. A Julian day times 86,400,000 needs 48 of a double's 53
    # bits, so rounding gives back SQLite's own integer milliseconds; the constant is 1970-01-01.
    return "(CAST(ROUND(julianday('now') * 86400000.0) AS INTEGER) - 210866760000000)"


@compiles(database_now_ms, "postgresql")
def _postgresql(_element: database_now_ms, _compiler: SQLCompiler, **_: Any) -> str:
    # now() would be the start of the transaction, before it waited for a lock.
    return "CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)"
