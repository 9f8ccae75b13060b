"""A source's table as the database describes it, held against what the configuration says of it."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    inspect,
)
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import NullType, TypeEngine

from des.naming.name import NAME_MAX
from des.sources.config import MANAGED_COLUMNS, OWNER_COLUMNS, ColumnsConfig, SourceConfig
from des.sources.errors import SourceSchemaError

ERROR_LENGTH: Final = 500
"""Characters of a reason that are kept, where the column takes as many."""
_TEXT_MIN: Final[dict[str, int]] = {
    "name": NAME_MAX,
    "claim_token": 49,
    "container": 36,
    "checksum": 64,
    "error": 40,
}
"""Fewest characters that managed text columns must take."""
_TYPES: Final[dict[str, TypeEngine[Any]]] = {
    "status": String(16),
    "name": String(NAME_MAX),
    "hash": BigInteger(),
    "shard": Integer(),
    "claim_token": String(64),
    "claim_expires": BigInteger(),
    "attempts": Integer(),
    "error": String(ERROR_LENGTH),
    "container": String(36),
    "checksum": String(64),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing about the table that does not fit."""

    where: str
    """Path in the configuration."""
    text: str
    """What was found and what was expected."""

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class SourceTable:
    """The reflected table, with its columns by role."""

    config: SourceConfig
    table: Table

    def column(self, role: str) -> Column[Any]:
        """Return the column of a role of `ColumnsConfig`; the configuration names it."""
        found: Column[Any] = self.table.c[getattr(self.config.columns, role)]
        return found

    def has(self, role: str) -> bool:
        """Return whether the configuration names a column for the role."""
        return getattr(self.config.columns, role) is not None

    def text_length(self, role: str) -> int | None:
        """Return how many characters the column takes; None for any number."""
        return getattr(self.column(role).type, "length", None)


def reflect(connection: Connection, config: SourceConfig) -> SourceTable:
    """Ask the database what the table is, and hold it against the configuration.

    Raises:
        SourceSchemaError: with one line per mistake.
    """
    found = look(connection, config)
    if isinstance(found, Mistake):
        raise SourceSchemaError(str(found))
    mistakes = list(compare(found, config, sqlite=connection.dialect.name == "sqlite"))
    if mistakes:
        raise SourceSchemaError("\n".join(map(str, mistakes)))
    return SourceTable(config, found)


def look(connection: Connection, config: SourceConfig) -> Table | Mistake:
    """Return the table as it is, or the mistake that it is not there."""
    try:
        return Table(
            config.table,
            MetaData(),
            schema=config.schema_name,
            autoload_with=connection,
            resolve_fks=False,
        )
    except NoSuchTableError:
        tables = inspect(connection).get_table_names(schema=config.schema_name)
        near = difflib.get_close_matches(config.table, tables, n=3)
        where = f"schema {config.schema_name!r}" if config.schema_name else "the default schema"
        hint = f"; near it are {', '.join(near)}" if near else ""
        return Mistake("table", f"{where} has no table {config.table!r}{hint}")


def compare(table: Table, config: SourceConfig, *, sqlite: bool = False) -> Iterator[Mistake]:
    """Yield everything about the table that does not fit.

    SQLite keeps any value in any column, so a type it declares in its own words is let through.
    """
    columns = config.columns
    for role in ("id", *OWNER_COLUMNS, *MANAGED_COLUMNS):
        name = getattr(columns, role)
        if name is None:
            continue
        if name not in table.c:
            yield _missing(f"columns.{role}", name, table)
            continue
        if sqlite and isinstance(table.c[name].type, NullType):
            continue
        yield from _compare_type(role, table.c[name], config)
    for key, name in columns.metadata.items():
        if name not in table.c:
            yield _missing(f"columns.metadata.{key}", name, table)
        elif isinstance(table.c[name].type, LargeBinary):
            yield Mistake(
                f"columns.metadata.{key}",
                f"column {name!r} is {table.c[name].type!r}, expected no binary one",
            )
    if columns.id in table.c and not _is_unique(table, columns.id):
        yield Mistake(
            "columns.id",
            f"column {columns.id!r} is neither the primary key nor unique by itself: "
            "two rows with one id could not be told apart",
        )
    for place, one in enumerate(config.filters):
        where = f"filters.{place}"
        if one.column not in table.c:
            yield _missing(f"{where}.column", one.column, table)
            continue
        for value in _values_of(one):
            wanted = _family_of(value)
            found = table.c[one.column].type
            if not isinstance(found, wanted) and not (sqlite and isinstance(found, NullType)):
                yield Mistake(
                    f"{where}.value",
                    f"{value!r} is {type(value).__name__}, column {one.column!r} is {found!r}",
                )


def missing_columns(table: Table, columns: ColumnsConfig) -> list[Column[Any]]:
    """Return the managed columns that the table lacks, as DES would make them."""
    return [
        Column(name, _TYPES[role], nullable=True)
        for role in MANAGED_COLUMNS
        if (name := getattr(columns, role)) is not None and name not in table.c
    ]


def _missing(where: str, name: str, table: Table) -> Mistake:
    near = difflib.get_close_matches(name, [column.name for column in table.c], n=3)
    hint = f"; near it are {', '.join(near)}" if near else ""
    return Mistake(where, f"table {table.name!r} has no column {name!r}{hint}")


def _compare_type(role: str, column: Column[Any], config: SourceConfig) -> Iterator[Mistake]:
    found = column.type
    where = f"columns.{role}"
    says = f"column {column.name!r} is {found!r}"
    if role == "id":
        whole = isinstance(found, Numeric) and not isinstance(found, Float) and not found.scale
        if not (whole or isinstance(found, Integer | Uuid | String)) or isinstance(found, Text | Boolean):
            yield Mistake(where, f"{says}, expected whole numbers, text of bounded length or UUIDs")
    elif role == "status":
        yield from _compare_status(where, says, found, config)
    elif role == "created_at":
        if not isinstance(found, DateTime | Date | Integer):
            yield Mistake(where, f"{says}, expected a timestamp, or whole milliseconds since 1970")
    elif role in {"size", "hash", "shard", "claim_expires", "attempts"}:
        yield from _compare_number(role, where, says, found)
    elif not isinstance(found, String):
        yield Mistake(where, f"{says}, expected text")
    elif found.length is not None and found.length < _TEXT_MIN.get(role, 0):
        yield Mistake(where, f"{says}, expected room for {_TEXT_MIN[role]} characters")
    if role in MANAGED_COLUMNS and role not in {"status", "attempts"} and not column.nullable:
        yield Mistake(where, f"column {column.name!r} is NOT NULL, expected one that DES may leave NULL")


def _compare_status(where: str, says: str, found: TypeEngine[Any], config: SourceConfig) -> Iterator[Mistake]:
    values = config.status_values
    wanted = [values.pending, values.marked, values.claimed, values.packed, values.failed]
    if isinstance(values.marked, int):
        if not isinstance(found, Integer | Numeric):
            yield Mistake(where, f"{says}, expected whole numbers as in status_values")
    elif not isinstance(found, String):
        yield Mistake(where, f"{says}, expected text as in status_values")
    elif isinstance(found, Enum):
        unknown = [value for value in wanted if value is not None and value not in found.enums]
        if unknown:
            yield Mistake("status_values", f"{unknown} are no values of the enumeration {found.enums}")
    else:
        longest = max(len(str(value)) for value in wanted if value is not None)
        if found.length is not None and found.length < longest:
            yield Mistake(where, f"{says}, expected room for {longest} characters")


def _compare_number(role: str, where: str, says: str, found: TypeEngine[Any]) -> Iterator[Mistake]:
    if not isinstance(found, Integer | Numeric) or isinstance(found, Float):
        yield Mistake(where, f"{says}, expected whole numbers")
    elif role in {"hash", "claim_expires"} and (
        isinstance(found, SmallInteger)
        or (isinstance(found, Integer) and not isinstance(found, BigInteger) and _is_four_bytes(found))
    ):
        yield Mistake(where, f"{says}, expected 64 bits")


def _is_four_bytes(found: Integer) -> bool:
    # SQLite's INTEGER has 64 bits whatever it is called; its reflected type is the plain one.
    return type(found).__module__ != "sqlalchemy.sql.sqltypes"


def _is_unique(table: Table, name: str) -> bool:
    alone = [name]
    if [column.name for column in table.primary_key.columns] == alone:
        return True
    constraints = (item for item in table.constraints if isinstance(item, UniqueConstraint))
    unique = [[column.name for column in item.columns] for item in constraints]
    unique += [[column.name for column in index.columns] for index in table.indexes if index.unique]
    return alone in unique


def _values_of(one: Any) -> Sequence[Any]:
    if hasattr(one, "values"):
        return list(one.values)
    return [one.value] if hasattr(one, "value") else []


_FAMILIES: Final[Mapping[type, tuple[type[TypeEngine[Any]], ...]]] = {
    bool: (Boolean, Integer),
    int: (Integer, Numeric),
    float: (Numeric,),
    datetime: (DateTime,),
    date: (Date, DateTime),
    str: (String, Uuid),
}


def _family_of(value: Any) -> tuple[type[TypeEngine[Any]], ...]:
    return _FAMILIES[type(value)]
