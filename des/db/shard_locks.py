"""Statements over `des_shard_locks`; each function is part of a transaction.

Rows are locked in the order of their shards, so that two nodes do not wait for each other in a ring.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db.catalog import ShardClaim, ShardLock
from des.db.rules import check_shards, fence, leaves_estate, may_take
from des.db.schema import shard_locks
from des.db.statements import in_portions, insert_if_absent, now_ms

_HELD: Final = {"state": "held"}
_FREE: Final = {"state": "free", "holder": "", "node": "", "expires_at": 0}


async def acquire(
    connection: AsyncConnection,
    shards: Sequence[int],
    *,
    holder: str,
    ttl_ms: int,
    force: bool,
    node: str = "",
) -> tuple[list[ShardLock], list[ShardLock]]:
    """Take the locks that may be taken; return them, by shard, and as they were what others lost by it."""
    wanted = check_shards(shards)
    known = {lock.shard for lock in await _locked(connection, wanted)}
    missing = [shard for shard in wanted if shard not in known]
    if missing:
        nobodys = {"epoch": 0, "acquired_at": 0, "heartbeat_at": 0, **_FREE}
        await insert_if_absent(connection, shard_locks, [{"shard_id": shard, **nobodys} for shard in missing])
    found = await _locked(connection, wanted)
    now = await now_ms(connection)
    free = [lock for lock in found if may_take(lock, holder=holder, node=node, now_ms=now, force=force)]
    taken = await _take(connection, free, holder=holder, node=node, now=now, ttl_ms=ttl_ms)
    return taken, [lock for lock in free if leaves_estate(lock, node=node)]


async def hand_over(
    connection: AsyncConnection, claim: ShardClaim, *, holder: str, node: str, ttl_ms: int
) -> list[ShardLock]:
    """Give the locks that are still the claim's to another holder; return them, by shard."""
    own = await _own(connection, claim)
    now = await now_ms(connection)
    return await _take(connection, own, holder=holder, node=node, now=now, ttl_ms=ttl_ms)


async def renew(connection: AsyncConnection, claim: ShardClaim, *, ttl_ms: int) -> list[ShardLock]:
    """Extend the locks that are still the claim's; return them, by shard."""
    own, now = await _renew(connection, claim, ttl_ms=ttl_ms)
    return [replace(lock, heartbeat_ms=now, expires_ms=now + ttl_ms) for lock in own]


async def renew_all(connection: AsyncConnection, claim: ShardClaim, *, ttl_ms: int) -> int:
    """Extend the locks that are still the claim's; return the time from which all of them run."""
    return (await _renew(connection, claim, ttl_ms=ttl_ms))[1]


async def _renew(
    connection: AsyncConnection, claim: ShardClaim, *, ttl_ms: int
) -> tuple[list[ShardLock], int]:
    own = await _own(connection, claim)
    now = await now_ms(connection)
    await _update(connection, own, heartbeat_at=now, expires_at=now + ttl_ms)
    return own, now


async def release(connection: AsyncConnection, claim: ShardClaim) -> None:
    """Free the locks that are still the claim's; their epochs stay."""
    await _update(connection, await _own(connection, claim), **_FREE)


async def every(connection: AsyncConnection, *, for_update: bool = False) -> list[ShardLock]:
    """Return all locks, by shard, their rows locked where asked."""
    statement = select(shard_locks).order_by(shard_locks.c.shard_id)
    rows = await connection.execute(statement.with_for_update() if for_update else statement)
    return [_lock(row) for row in rows]


async def renumber(connection: AsyncConnection, locks: Sequence[ShardLock], *, count: int) -> int:
    """Free all locks and have at least `count`, each with an epoch above all there ever were; return it."""
    epoch = 1 + max((lock.epoch for lock in locks), default=0)
    await connection.execute(update(shard_locks).values(epoch=epoch, **_FREE))
    known = {lock.shard for lock in locks}
    fresh = {"epoch": epoch, "acquired_at": 0, "heartbeat_at": 0, **_FREE}
    for shards in in_portions([shard for shard in range(count) if shard not in known]):
        await insert_if_absent(connection, shard_locks, [{"shard_id": shard, **fresh} for shard in shards])
    return epoch


async def guard(connection: AsyncConnection, claim: ShardClaim) -> None:
    """Go on only while the claim holds, and keep its locks from being taken until the transaction ends.

    Raises:
        FencedError: a shard's lock has moved on.
    """
    fence(claim, await _locked(connection, [shard for shard, _ in claim.epochs], shared=True))


async def _take(
    connection: AsyncConnection, locks: Sequence[ShardLock], *, holder: str, node: str, now: int, ttl_ms: int
) -> list[ShardLock]:
    times = {"acquired_at": now, "heartbeat_at": now, "expires_at": now + ttl_ms}
    await _update(
        connection, locks, epoch=shard_locks.c.epoch + 1, holder=holder, node=node, **_HELD, **times
    )
    return [
        replace(
            lock,
            holder=holder,
            epoch=lock.epoch + 1,
            acquired_ms=now,
            heartbeat_ms=now,
            expires_ms=now + ttl_ms,
            node=node,
        )
        for lock in locks
    ]


async def _own(connection: AsyncConnection, claim: ShardClaim) -> list[ShardLock]:
    epochs = dict(claim.epochs)
    return [
        lock
        for lock in await _locked(connection, list(epochs))
        if lock.holder == claim.holder and lock.epoch == epochs[lock.shard]
    ]


async def _locked(
    connection: AsyncConnection, shards: Sequence[int], *, shared: bool = False
) -> list[ShardLock]:
    """Return these locks, by shard, their rows locked; SQLite has no row locks and one writer."""
    found: list[ShardLock] = []
    for portion in in_portions(sorted(set(shards))):
        rows = await connection.execute(
            select(shard_locks)
            .where(shard_locks.c.shard_id.in_(portion))
            .order_by(shard_locks.c.shard_id)
            .with_for_update(read=shared)
        )
        found += [_lock(row) for row in rows]
    return found


async def _update(connection: AsyncConnection, locks: Sequence[ShardLock], **values: Any) -> None:
    for portion in in_portions([lock.shard for lock in locks]):
        await connection.execute(
            update(shard_locks).where(shard_locks.c.shard_id.in_(portion)).values(**values)
        )


def _lock(row: Row[Any]) -> ShardLock:
    return ShardLock(
        shard=row.shard_id,
        holder=row.holder,
        epoch=row.epoch,
        acquired_ms=row.acquired_at,
        heartbeat_ms=row.heartbeat_at,
        expires_ms=row.expires_at,
        node=row.node,
    )
