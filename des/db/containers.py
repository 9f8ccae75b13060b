"""Statements over `des_containers`; each function is part of a transaction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    bindparam,
    delete,
    desc,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db import shard_locks
from des.db.catalog import (
    ContainerRow,
    ContainerState,
    DayTotals,
    ShardClaim,
    ShardRun,
    ShardTotals,
)
from des.db.container_rows import container_of, container_values, open_container_of, open_values
from des.db.rows import OpenContainer
from des.db.rules import (
    KeyTakenError,
    check_announcement,
    check_cover,
    check_open,
    hash_range,
    known,
    settle_abandon,
    settle_announcement,
    settle_commit,
    settle_remove,
    settle_retire,
)
from des.db.schema import HASH_BITS, IS_OPEN, OPEN, tombstones
from des.db.schema import containers as table
from des.db.statements import in_portions, insert_if_absent, now_ms
from des.errors import InvalidInputError

_OF_DAY: Final = select(table).where(
    table.c.day == bindparam("day"), table.c.state == ContainerState.STORED.value
)
_COVERING: Final = (
    # Built once: this is the read path, and building takes longer than running. Two searches of the
    # index; for one with OR, SQLite would walk the whole day.
    _OF_DAY.where(
        table.c.hash_first.in_(bindparam("boundaries", expanding=True)),
        table.c.hash_stop > bindparam("first"),
    )
    .union_all(_OF_DAY.where(table.c.hash_first > bindparam("first"), table.c.hash_first < bindparam("stop")))
    .order_by(desc("name_ms_last"), desc("container_id"))
)


async def checkpoint(connection: AsyncConnection, rows: Sequence[OpenContainer], claim: ShardClaim) -> None:
    """Replace the open rows of the claim's shards.

    Raises:
        FencedError: the claim does not hold.
        InvalidInputError: a row is of a shard that the claim leaves out, or says nothing.
    """
    check_open(rows, claim)
    await shard_locks.guard(connection, claim)
    epochs = dict(claim.epochs)
    for shards in in_portions(sorted(epochs)):
        await connection.execute(delete(table).where(IS_OPEN, table.c.shard_id.in_(shards)))
    if rows:
        now = await now_ms(connection)
        values = [open_values(row, epoch=epochs[row.shard], now=now) for row in rows]
        await connection.execute(insert(table), values)


async def opened(connection: AsyncConnection) -> list[OpenContainer]:
    """Return the open rows, by day and shard."""
    statement = select(table).where(IS_OPEN).order_by(table.c.day, table.c.shard_id)
    return [open_container_of(row) for row in await connection.execute(statement)]


async def announce(connection: AsyncConnection, row: ContainerRow, claim: ShardClaim) -> ContainerRow:
    """Insert `row` as uploading unless it is there; return what is there then.

    Raises:
        FencedError: the claim does not hold.
        ContainerConflictError: its id stands for another object.
        KeyTakenError: its key is another container's.
        InvalidInputError: the row breaks a rule of the table.
    """
    check_announcement(row, claim)
    await shard_locks.guard(connection, claim)
    try:
        await insert_if_absent(
            connection, table, [container_values(row, created_at=await now_ms(connection))]
        )
    except IntegrityError as error:
        raise InvalidInputError(
            f"container {row.container_id} breaks a rule of des_containers: {error.orig}"
        ) from error
    found = await one(connection, row.container_id)
    if found is None:
        raise KeyTakenError(f"object key {row.key!r} is another container's, not {row.container_id}'s")
    return settle_announcement(found, row)


async def commit(
    connection: AsyncConnection, container_id: str, *, etag: str, claim: ShardClaim
) -> ContainerRow:
    """Turn the row to stored unless it is, and what it replaces to retired; return it.

    Raises:
        FencedError: the claim does not hold.
        UnknownContainerError: it was never announced.
        ContainerConflictError: it is stored with another etag or abandoned, or what it replaces is not
            stored.
    """
    await shard_locks.guard(connection, claim)
    found = await one(connection, container_id, for_update=True)
    owed = settle_commit(found, container_id=container_id, etag=etag)
    found = known(found, container_id)
    check_cover(found.run, claim)
    if not owed:
        return found
    now = await now_ms(connection)
    for replaced in sorted(found.replaces):
        await _turn(connection, replaced, claim, settle_retire, **_retired(now))
    await _set(connection, container_id, state=ContainerState.STORED.value, etag=etag, stored_at=now)
    return known(await one(connection, container_id), container_id)


async def abandon(connection: AsyncConnection, container_id: str, claim: ShardClaim) -> ContainerRow:
    """Turn an uploading row to abandoned unless it is; return it.

    Raises:
        FencedError: the claim does not hold.
        UnknownContainerError, ContainerConflictError: it was never announced, or is stored.
    """
    await shard_locks.guard(connection, claim)
    ended = {"state": ContainerState.ABANDONED.value, "abandoned_at": await now_ms(connection)}
    return await _turn(connection, container_id, claim, settle_abandon, **ended)


async def retire(
    connection: AsyncConnection, container_ids: Sequence[str], claim: ShardClaim
) -> list[ContainerRow]:
    """Turn stored rows to retired unless they are; return them by id.

    Raises:
        FencedError: the claim does not hold.
        UnknownContainerError, ContainerConflictError: one was never announced, or never stored.
    """
    await shard_locks.guard(connection, claim)
    ended = _retired(await now_ms(connection))
    return [
        await _turn(connection, container_id, claim, settle_retire, **ended)
        for container_id in sorted(set(container_ids))
    ]


async def remove(
    connection: AsyncConnection, container_ids: Sequence[str], claim: ShardClaim
) -> list[ContainerRow]:
    """Set when the objects of retired or abandoned rows were gone, unless it is set; return the rows by id.

    Raises:
        FencedError: the claim does not hold.
        UnknownContainerError, ContainerConflictError: one was never announced, or its object may be needed.
    """
    await shard_locks.guard(connection, claim)
    now = await now_ms(connection)
    return [
        await _turn(connection, container_id, claim, settle_remove, removed_at=now)
        for container_id in sorted(set(container_ids))
    ]


async def _turn(
    connection: AsyncConnection,
    container_id: str,
    claim: ShardClaim,
    settle: Callable[..., bool],
    **values: Any,
) -> ContainerRow:
    """Set `values` in the row if `settle` says that it is owed; return the row as it is then."""
    found = await one(connection, container_id, for_update=True)
    owed = settle(found, container_id=container_id)
    found = known(found, container_id)
    check_cover(found.run, claim)
    if not owed:
        return found
    await _set(connection, container_id, **values)
    return known(await one(connection, container_id), container_id)


async def _set(connection: AsyncConnection, container_id: str, **values: Any) -> None:
    await connection.execute(update(table).where(table.c.container_id == container_id).values(**values))


def _retired(now: int) -> Mapping[str, Any]:
    return {"state": ContainerState.RETIRED.value, "retired_at": now}


async def one(
    connection: AsyncConnection, container_id: str, *, for_update: bool = False
) -> ContainerRow | None:
    """Return a row by its id, or None."""
    statement = select(table).where(table.c.container_id == container_id, table.c.state != OPEN)
    if for_update:
        statement = statement.with_for_update()
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else container_of(row)


async def covering(connection: AsyncConnection, day: str, run: ShardRun) -> list[ContainerRow]:
    """Return the stored containers of `day` that share hash space with `run`, newest names first.

    Runs are aligned, so of two that meet one holds the other. A row that holds `run` starts where `run`
    does or at one of a few coarser boundaries; looking there and inside `run` visits no other row, where
    the plain test for overlap would walk half the day.
    """
    first, stop = hash_range(run, bits=HASH_BITS)
    boundaries = sorted({first & -(1 << level) for level in range(HASH_BITS + 1)})
    asked = {"day": day, "first": first, "stop": stop, "boundaries": boundaries}
    return [container_of(row) for row in await connection.execute(_COVERING, asked)]


async def every(
    connection: AsyncConnection, *, state: ContainerState | None, day: str | None
) -> list[ContainerRow]:
    """Return rows by id, all or of one state or day."""
    statement = select(table).where(table.c.state != OPEN).order_by(table.c.container_id)
    if state is not None:
        statement = statement.where(table.c.state == state.value)
    if day is not None:
        statement = statement.where(table.c.day == day)
    return [container_of(row) for row in await connection.execute(statement)]


async def days(connection: AsyncConnection) -> list[str]:
    """Return the days of stored containers and of tombstones, sorted; a few index reads for each day."""
    stored = await connection.scalars(days_of(table.c.day, table.c.state == ContainerState.STORED.value))
    deleted = await connection.scalars(days_of(tombstones.c.day))
    return sorted({*stored, *deleted})


def days_of(day: Column[str], *conditions: ColumnElement[bool]) -> Select[tuple[str]]:
    """Return a query for the values of an indexed column, each found behind the one before.

    DISTINCT would read every row: a listing asks for each of its pages, and rows come by the million.
    """
    found = select(func.min(day).label("day")).where(*conditions).cte("found", recursive=True)
    later = select(func.min(day)).where(day > found.c.day, *conditions).scalar_subquery()
    found = found.union_all(select(later).where(found.c.day.is_not(None)))
    return select(found.c.day).where(found.c.day.is_not(None))


async def totals(connection: AsyncConnection) -> list[ShardTotals]:
    """Return what is stored, counted at the first shard of each run, by shard."""
    rows = await connection.execute(
        select(
            table.c.shard_id,
            table.c.shard_bits,
            func.count().label("containers"),
            func.sum(table.c.file_count).label("files"),
            func.sum(table.c.data_bytes).label("data_bytes"),
            func.max(table.c.stored_at).label("last_stored"),
        )
        .where(table.c.state == ContainerState.STORED.value)
        .group_by(table.c.shard_id, table.c.shard_bits)
        .order_by(table.c.shard_id, table.c.shard_bits)
    )
    # PostgreSQL sums bigints as numeric.
    return [
        ShardTotals(
            shard=row.shard_id,
            containers=row.containers,
            files=int(row.files),
            data_bytes=int(row.data_bytes),
            last_stored_ms=row.last_stored,
            bits=row.shard_bits,
        )
        for row in rows
    ]


async def day_totals(connection: AsyncConnection, days_max: int) -> list[DayTotals]:
    """Return what is stored of the last days, by day."""
    rows = await connection.execute(
        select(
            table.c.day,
            func.count().label("containers"),
            func.sum(table.c.file_count).label("files"),
            func.sum(table.c.data_bytes).label("data_bytes"),
        )
        .where(table.c.state == ContainerState.STORED.value)
        .group_by(table.c.day)
        .order_by(table.c.day.desc())
        .limit(days_max)
    )
    return [
        DayTotals(row.day, row.containers, int(row.files), int(row.data_bytes))
        for row in reversed(rows.all())
    ]
