"""What `des sources check` finds out about a source: does it fit, may we write, what is it short of."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Dialect, Index, Table, UniqueConstraint, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex

from des.clock import Clock
from des.errors import DesError
from des.sources import statements
from des.sources.config import MANAGED_COLUMNS, SourceConfig
from des.sources.connector import SourceDatabaseConnector
from des.sources.engine import SourceEngine
from des.sources.rows import StatusCounts
from des.sources.source_table import Mistake, SourceTable, compare, look, missing_columns


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What is known of one source."""

    name: str
    mistakes: tuple[str, ...]
    """What keeps it from being worked on; empty when nothing does."""
    ddl: tuple[str, ...]
    """Statements that would add what DES manages and the indexes it reads by; nobody has run them."""
    counts: StatusCounts | None
    """None where they could not be had."""
    clock_ahead_ms: int | None
    """How far the database's clock is ahead of this machine's; it does no harm."""


async def check_source(name: str, config: SourceConfig, clock: Clock) -> SourceReport:
    """Connect, look at the table, try the privileges, count. Changes nothing."""
    try:
        engine = SourceEngine(name, config, clock)
    except DesError as error:
        return SourceReport(name, (str(error),), (), None, None)
    try:
        mistakes, ddl = await engine.read(lambda connection: _inspect(connection, config))
        if mistakes:
            return SourceReport(name, tuple(map(str, mistakes)), tuple(ddl), None, None)
        denied = await engine.write(lambda connection: _try_writing(connection, engine, config))
        if denied:
            return SourceReport(name, (denied,), tuple(ddl), None, None)
    except DesError as error:
        return SourceReport(name, (str(error),), (), None, None)
    finally:
        await engine.close()
    connector = SourceDatabaseConnector(name, config, clock=clock)
    try:
        before = clock.now_ms()
        ahead = await connector.now_ms() - before
        return SourceReport(name, (), tuple(ddl), await connector.counts(), ahead)
    except DesError as error:
        return SourceReport(name, (str(error),), tuple(ddl), None, None)
    finally:
        await connector.close()


def propose(table: Table, config: SourceConfig, dialect: Dialect) -> list[str]:
    """Return the statements that add the managed columns and indexes the table lacks."""
    preparer = dialect.identifier_preparer
    target = preparer.format_table(table)
    proposed = [
        f"ALTER TABLE {target} {'ADD' if dialect.name in {'oracle', 'mssql'} else 'ADD COLUMN'} "
        f"{preparer.quote(column.name)} {column.type.compile(dialect=dialect)}"
        for column in missing_columns(table, config.columns)
    ]
    return proposed + [
        str(CreateIndex(index).compile(dialect=dialect)) for index in _missing_indexes(table, config)
    ]


def _missing_indexes(table: Table, config: SourceConfig) -> Iterator[Index]:
    """Claims read by (status, shard, id), marking by (status, id); no two rows may have one name."""
    columns = config.columns
    # Made on a copy: an index that is only proposed must not stick to the table looked at.
    copy = table.to_metadata(table.metadata.__class__())
    for column in missing_columns(copy, columns):
        copy.append_column(column)
    claim = [columns.status, *([columns.shard] if columns.shard else []), columns.id]
    wanted = [("claim", claim, False), ("name", [columns.name], True)]
    if columns.shard:
        wanted.insert(1, ("mark", [columns.status, columns.id], False))
    there = [[column.name for column in index.columns] for index in table.indexes]
    there += [
        [column.name for column in one.columns]
        for one in table.constraints
        if isinstance(one, UniqueConstraint)
    ]
    for role, names, unique in wanted:
        if names not in there and all(name in copy.c for name in names):
            yield Index(f"ix_{table.name}_des_{role}", *(copy.c[name] for name in names), unique=unique)


def _inspect(connection: Connection, config: SourceConfig) -> tuple[list[Mistake], list[str]]:
    found = look(connection, config)
    if isinstance(found, Mistake):
        return [found], []
    mistakes = list(compare(found, config, sqlite=connection.dialect.name == "sqlite"))
    return mistakes, propose(found, config, connection.dialect)


def _try_writing(connection: Connection, engine: SourceEngine, config: SourceConfig) -> str:
    """Lock a row and update none: a database checks privileges before it looks for rows."""
    found = look(connection, config)
    assert isinstance(found, Table)
    source = SourceTable(config, found)
    query = statements.eligible(source, engine.dialect, now_ms=0, limit=1, passed=())
    values = {
        source.column(role): source.column(role)
        for role in MANAGED_COLUMNS
        if getattr(config.columns, role) is not None
    }
    transaction = connection.begin_nested()
    try:
        connection.execute(query).all()
        connection.execute(update(found).where(source.column("id").is_(None)).values(values))
    except DBAPIError as error:
        transaction.rollback()
        return f"user {config.database.user!r} may not mark rows of {config.table!r}: {error.orig}"
    transaction.rollback()
    return ""
