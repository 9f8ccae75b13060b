"""Statements that several tables need and that databases spell differently."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db.database_time import database_now_ms

T = TypeVar("T")

_VALUES_MAX: Final = 500
"""Values in one IN list; SQLite takes 32,766 and PostgreSQL 32,767 parameters in one statement."""


def in_portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut `values` into lists short enough for one statement."""
    for start in range(0, len(values), _VALUES_MAX):
        yield values[start : start + _VALUES_MAX]


async def now_ms(connection: AsyncConnection) -> int:
    """Return the database's time; ask after the rows were locked, for waiting takes time too."""
    return int((await connection.execute(select(database_now_ms()))).scalar_one())


async def insert_if_absent(
    connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert the rows whose unique columns are not taken; leave the others alone."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    await connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def greater(column: Any, value: int, connection: AsyncConnection) -> Any:
    """Return the greater of a column and a value."""
    # SQLite's max of two values is PostgreSQL's greatest.
    return func.max(column, value) if connection.dialect.name == "sqlite" else func.greatest(column, value)
