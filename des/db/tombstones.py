"""Statements over `des_tombstones`; each function is part of a transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db import shard_locks
from des.db.catalog import ShardClaim, ShardRun
from des.db.rows import Tombstone
from des.db.rules import check_claims, hash_range
from des.db.schema import HASH_BITS
from des.db.schema import tombstones as table
from des.db.statements import in_portions, insert_if_absent, now_ms
from des.naming import consistent_hash


async def put(connection: AsyncConnection, rows: Sequence[Tombstone], claim: ShardClaim) -> list[Tombstone]:
    """Insert the rows whose names have none; return what stands for each name, in order.

    Raises:
        FencedError: the claim does not hold.
    """
    check_claims((row.shard for row in rows), claim)
    await shard_locks.guard(connection, claim)
    now = await now_ms(connection)
    for portion in in_portions(rows):
        await insert_if_absent(
            connection,
            table,
            [
                {
                    "name": row.name,
                    "day": row.day,
                    "shard_id": row.shard,
                    "shard_bits": row.bits,
                    "hash": consistent_hash(row.name, HASH_BITS),
                    "epoch": row.epoch,
                    "external_key": row.external_key,
                    "deleted_at": now,
                }
                for row in portion
            ],
        )
    standing: dict[str, Tombstone] = {}
    for names in in_portions([row.name for row in rows]):
        for found in await connection.execute(select(table).where(table.c.name.in_(names))):
            standing[found.name] = _tombstone(found)
    return [standing[row.name] for row in rows]


async def one(connection: AsyncConnection, name: str) -> Tombstone | None:
    """Return the row of a name, or None."""
    row = (await connection.execute(select(table).where(table.c.name == name))).one_or_none()
    return None if row is None else _tombstone(row)


async def within(connection: AsyncConnection, day: str, run: ShardRun) -> list[Tombstone]:
    """Return the rows of `day` whose names lie in `run`, by name."""
    first, stop = hash_range(run, bits=HASH_BITS)
    rows = await connection.execute(
        select(table)
        .where(table.c.day == day, table.c.hash >= first, table.c.hash < stop)
        .order_by(table.c.name)
    )
    return [_tombstone(row) for row in rows]


def page_of_day(day: str, *, after: str, limit: int) -> Select[Any]:
    """Return a query for rows of `day` by hash and name, of names behind `after`.

    By name alone each page would sort the whole day: the index has the hashes.
    """
    statement = select(table).where(table.c.day == day).order_by(table.c.hash, table.c.name).limit(limit)
    if not after:
        return statement
    hashed = consistent_hash(after, HASH_BITS)
    return statement.where(table.c.hash >= hashed, or_(table.c.hash > hashed, table.c.name > after))


async def of_day(connection: AsyncConnection, day: str, *, after: str, limit: int) -> list[Tombstone]:
    """Return up to `limit` rows of `day` by hash and name, of names behind `after`."""
    rows = await connection.execute(page_of_day(day, after=after, limit=limit))
    return [_tombstone(row) for row in rows]


async def page(
    connection: AsyncConnection, *, purged: bool | None, after: str, limit: int
) -> list[Tombstone]:
    """Return up to `limit` rows by name, of names above `after`."""
    statement = select(table).where(table.c.name > after).order_by(table.c.name).limit(limit)
    if purged is not None:
        unset = table.c.purged_at.is_(None)
        statement = statement.where(~unset if purged else unset)
    return [_tombstone(row) for row in await connection.execute(statement)]


async def purge(connection: AsyncConnection, names: Sequence[str], claim: ShardClaim) -> None:
    """Set when the bytes of these files were gone, unless it is set.

    Raises:
        FencedError: the claim does not hold.
    """
    await shard_locks.guard(connection, claim)
    now = await now_ms(connection)
    for portion in in_portions(sorted(set(names))):
        await connection.execute(
            update(table).where(table.c.name.in_(portion), table.c.purged_at.is_(None)).values(purged_at=now)
        )


def _tombstone(row: Row[Any]) -> Tombstone:
    return Tombstone(
        name=row.name,
        day=row.day,
        shard=row.shard_id,
        bits=row.shard_bits,
        epoch=row.epoch,
        external_key=row.external_key,
        deleted_ms=row.deleted_at,
        purged_ms=row.purged_at,
    )
