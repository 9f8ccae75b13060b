"""Statements over `des_estates`: what lost nodes may hold of shards; each is part of a transaction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db.catalog import ShardLock
from des.db.membership import Estate
from des.db.rules import known_named_until_ms, named_until_ms
from des.db.schema import IS_OPEN, containers, nodes
from des.db.schema import estates as table
from des.db.statements import greater, in_portions, now_ms


async def every(connection: AsyncConnection) -> list[Estate]:
    """Return all, by shard and node."""
    rows = await connection.execute(select(table).order_by(table.c.shard_id, table.c.node))
    return [_estate(row) for row in rows]


async def replace_all(connection: AsyncConnection, estates: Sequence[Estate]) -> None:
    """Put `estates` in the place of all that are there."""
    await connection.execute(delete(table))
    if estates:
        await connection.execute(table.insert(), [_values(estate) for estate in estates])


async def inherit(connection: AsyncConnection, lost: Iterable[ShardLock]) -> None:
    """Note what the holders of these locks may still hold, as the locks are taken from them."""
    lost = list(lost)
    if not lost:
        return
    now = await now_ms(connection)
    said = {
        row.node: (row.local_files, row.named_until if row.names_bound_by == row.holder else None)
        for row in await connection.execute(
            select(nodes).where(nodes.c.node.in_({lock.node for lock in lost}))
        )
    }
    counted = await connection.execute(
        select(containers.c.shard_id, containers.c.node, func.sum(containers.c.file_count))
        .where(IS_OPEN, containers.c.shard_id.in_({lock.shard for lock in lost}))
        .group_by(containers.c.shard_id, containers.c.node)
    )
    open_files = {(shard, node): int(files) for shard, node, files in counted}
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(table)
    # What was settled once stays settled; what came after is owed anew.
    upsert = insert.on_conflict_do_update(
        index_elements=[table.c.shard_id, table.c.node],
        set_={
            "epoch": insert.excluded.epoch,
            "taken_at": insert.excluded.taken_at,
            "named_until": insert.excluded.named_until,
            "local_files": insert.excluded.local_files,
            "open_files": insert.excluded.open_files,
            "owed": True,
        },
    )
    values = []
    for lock in lost:
        local_files, said_ms = said.get(lock.node, (True, None))
        estate = Estate(
            shard=lock.shard,
            node=lock.node,
            epoch=lock.epoch,
            local_files=local_files,
            taken_ms=now,
            named_until_ms=named_until_ms(lock, said_ms=said_ms, now_ms=now),
            settled_seq=0,
            owed=True,
            open_files=open_files.get((lock.shard, lock.node), 0),
        )
        values.append(_values(estate))
    await connection.execute(upsert, values)


async def settle(connection: AsyncConnection, node: str, taken: Mapping[int, int], *, seq: int) -> None:
    """Mark estates as settled up to `seq`, those that are still of the given epochs."""
    for epoch, shards in _by_epoch(taken).items():
        for portion in in_portions(shards):
            await connection.execute(
                update(table)
                .where(and_(_of(node, portion), table.c.epoch == epoch))
                .values(
                    owed=False,
                    local_files=False,
                    settled_seq=greater(table.c.settled_seq, seq, connection),
                )
            )


async def forgive(connection: AsyncConnection, node: str, shards: Sequence[int]) -> None:
    """Stop waiting for what a node alone held."""
    for portion in in_portions(sorted(set(shards))):
        await connection.execute(update(table).where(_of(node, portion)).values(local_files=False))


async def drop(connection: AsyncConnection, node: str, taken: Mapping[int, int]) -> None:
    """Remove settled estates, those that are still of the given epochs."""
    for epoch, shards in _by_epoch(taken).items():
        for portion in in_portions(shards):
            await connection.execute(
                delete(table).where(_of(node, portion), table.c.epoch == epoch, table.c.owed.is_(False))
            )


def _by_epoch(taken: Mapping[int, int]) -> dict[int, list[int]]:
    by_epoch: dict[int, list[int]] = {}
    for shard, epoch in sorted(taken.items()):
        by_epoch.setdefault(epoch, []).append(shard)
    return by_epoch


def _of(node: str, shards: Sequence[int]) -> Any:
    return and_(table.c.node == node, table.c.shard_id.in_(shards))


def _values(estate: Estate) -> dict[str, Any]:
    return {
        "shard_id": estate.shard,
        "node": estate.node,
        "epoch": estate.epoch,
        "local_files": estate.local_files,
        "taken_at": estate.taken_ms,
        "named_until": estate.named_until_ms,
        "settled_seq": estate.settled_seq,
        "owed": estate.owed,
        "open_files": estate.open_files,
    }


def _estate(row: Row[Any]) -> Estate:
    return Estate(
        shard=row.shard_id,
        node=row.node,
        epoch=row.epoch,
        local_files=bool(row.local_files),
        taken_ms=row.taken_at,
        named_until_ms=known_named_until_ms(row.named_until, taken_ms=row.taken_at),
        settled_seq=row.settled_seq,
        owed=bool(row.owed),
        open_files=row.open_files,
    )
