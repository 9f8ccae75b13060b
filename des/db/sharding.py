"""Statements by which a store is divided into shards, and divided anew; each is part of a transaction."""

from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db import estates, log_segments, shard_locks
from des.db.membership import NoShardingError, Sharding
from des.db.resharding import check_bits, estates_at, may_turn
from des.db.schema import IS_OPEN, containers, stores
from des.db.statements import now_ms


async def find(connection: AsyncConnection) -> Sharding | None:
    """Return how the store is divided; None where no node has said it yet."""
    return _sharding((await connection.execute(select(stores))).one_or_none())


async def decide(connection: AsyncConnection, bits: int) -> Sharding:
    """Return how the store is divided: into `2**bits` where nobody has said it before."""
    check_bits(bits)
    await connection.execute(update(stores).where(stores.c.shard_bits.is_(None)).values(shard_bits=bits))
    return _known(await find(connection))


async def ask(connection: AsyncConnection, bits: int | None, *, from_ms: int) -> Sharding:
    """Note what is asked for; the same as there is is nothing.

    Raises:
        NoShardingError: nobody has said how the store is divided now.
    """
    sharding = _known(await _locked(connection))
    if bits is not None:
        check_bits(bits)
    wanted = None if bits == sharding.bits else bits
    await connection.execute(
        update(stores).values(next_shard_bits=wanted, next_shard_bits_at=None if wanted is None else from_ms)
    )
    return _known(await find(connection))


async def turn(connection: AsyncConnection, *, force: bool) -> Sharding:
    """Divide the store as was asked, if that may be done now; return how it is divided then."""
    sharding = _known(await _locked(connection))
    locks = await shard_locks.every(connection, for_update=True)
    if not may_turn(sharding, locks, now_ms=await now_ms(connection), force=force):
        return sharding
    before, after = sharding.bits, sharding.next_bits
    assert after is not None
    epoch = await shard_locks.renumber(connection, locks, count=1 << after)
    moved = estates_at(await estates.every(connection), before=before, after=after, epoch=epoch)
    await estates.replace_all(connection, moved)
    await log_segments.renumber(connection, before=before, after=after)
    await connection.execute(delete(containers).where(IS_OPEN))  # said by holders that are none any more
    await connection.execute(
        update(stores).values(
            shard_bits=after,
            shard_generation=sharding.generation + 1,
            next_shard_bits=None,
            next_shard_bits_at=None,
        )
    )
    return _known(await find(connection))


async def _locked(connection: AsyncConnection) -> Sharding | None:
    return _sharding((await connection.execute(select(stores).with_for_update())).one_or_none())


def _known(sharding: Sharding | None) -> Sharding:
    if sharding is None:
        raise NoShardingError("no node has opened this store yet")
    return sharding


def _sharding(row: Row[Any] | None) -> Sharding | None:
    if row is None or row.shard_bits is None:
        return None
    return Sharding(
        bits=row.shard_bits,
        generation=row.shard_generation,
        next_bits=row.next_shard_bits,
        next_ms=row.next_shard_bits_at or 0,
    )
