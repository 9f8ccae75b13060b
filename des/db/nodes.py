"""Statements over `des_nodes`, `des_node_ids` and `des_estates`; each is part of a transaction."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db import shard_locks
from des.db.catalog import ShardClaim, ShardLock
from des.db.membership import ClusterView, Estate, NameLease, NodeBeat, NodeRow, NodeState
from des.db.rules import check_beat, choose_node_id
from des.db.schema import IS_OPEN, containers, estates, node_ids, nodes
from des.db.statements import in_portions, insert_if_absent, now_ms


async def register(connection: AsyncConnection, beat: NodeBeat, *, ttl_ms: int, window_ms: int) -> NameLease:
    """Enter a node and lease its node id.

    Raises:
        NodeReplacedError: a later start of it is registered.
        NodeIdsExhaustedError: no id is free.
    """
    found = (
        await connection.execute(select(nodes).where(nodes.c.node == beat.node).with_for_update())
    ).one_or_none()
    if found is not None:
        check_beat(_node(found), beat, starting=True)
    now = await now_ms(connection)
    values = {**_said(beat), "started_at": now, "heartbeat_at": now, "expires_at": now + ttl_ms}
    if found is None:
        await insert_if_absent(connection, nodes, [{"node": beat.node, **values}])
    await connection.execute(update(nodes).where(nodes.c.node == beat.node).values(values))
    return await _lease_node_id(connection, beat, window_ms=window_ms)


async def _lease_node_id(connection: AsyncConnection, beat: NodeBeat, *, window_ms: int) -> NameLease:
    while True:
        rows = await connection.execute(select(node_ids).order_by(node_ids.c.node_id).with_for_update())
        now = await now_ms(connection)
        known = [(row.node_id, row.node, row.floor_ms, row.used_at) for row in rows]
        node_id = choose_node_id(known, node=beat.node, now_ms=now, window_ms=window_ms)
        before = next((row for row in known if row[0] == node_id), None)
        floor_ms = max(beat.name_floor_ms, before[2] if before else 0)
        values = {"node": beat.node, "floor_ms": floor_ms, "used_at": now}
        if before is None:
            # Somebody else may be inserting the same id: whoever came second looks again.
            await insert_if_absent(connection, node_ids, [{"node_id": node_id, **values}])
        else:
            await connection.execute(update(node_ids).where(node_ids.c.node_id == node_id).values(values))
        owner = (
            await connection.execute(select(node_ids.c.node).where(node_ids.c.node_id == node_id))
        ).scalar_one()
        if owner == beat.node:
            return NameLease(node_id, floor_ms)


async def beat_and_renew(
    connection: AsyncConnection, beat: NodeBeat, claim: ShardClaim, *, ttl_ms: int
) -> ClusterView:
    """Record a heartbeat, extend the claim's locks, and return the cluster.

    Raises:
        NodeReplacedError: another start of the node is registered.
    """
    found = (
        await connection.execute(select(nodes).where(nodes.c.node == beat.node).with_for_update())
    ).one_or_none()
    check_beat(None if found is None else _node(found), beat, starting=False)
    await shard_locks.renew(connection, claim, ttl_ms=ttl_ms)
    now = await now_ms(connection)
    values = {**_said(beat), "heartbeat_at": now, "expires_at": now + ttl_ms}
    await connection.execute(update(nodes).where(nodes.c.node == beat.node).values(values))
    await connection.execute(
        update(node_ids)
        .where(node_ids.c.node == beat.node)
        .values(used_at=now, floor_ms=_greater(node_ids.c.floor_ms, beat.name_floor_ms, connection))
    )
    return await view(connection)


async def view(connection: AsyncConnection) -> ClusterView:
    """Return nodes, locks and estates."""
    found_nodes = await connection.execute(select(nodes).order_by(nodes.c.node))
    locks = await shard_locks.every(connection)
    found_estates = await connection.execute(select(estates).order_by(estates.c.shard_id, estates.c.node))
    return ClusterView(
        now_ms=await now_ms(connection),
        nodes=tuple(_node(row) for row in found_nodes),
        locks=tuple(locks),
        estates=tuple(_estate(row) for row in found_estates),
    )


async def transfer(
    connection: AsyncConnection, claim: ShardClaim, *, holder: str, node: str, ttl_ms: int
) -> list[ShardLock]:
    """Give the claim's locks to another holder; return them, by shard."""
    return await shard_locks.hand_over(connection, claim, holder=holder, node=node, ttl_ms=ttl_ms)


async def inherit(connection: AsyncConnection, lost: Iterable[ShardLock]) -> None:
    """Note what the holders of these locks may still hold, as the locks are taken from them."""
    rows = [
        {"shard_id": lock.shard, "node": lock.node, "epoch": lock.epoch, "settled_seq": 0, "owed": True}
        for lock in lost
    ]
    if not rows:
        return
    now = await now_ms(connection)
    local = {
        row.node: row.local_files
        for row in await connection.execute(
            select(nodes.c.node, nodes.c.local_files).where(nodes.c.node.in_({row["node"] for row in rows}))
        )
    }
    counted = await connection.execute(
        select(containers.c.shard_id, containers.c.node, func.sum(containers.c.file_count))
        .where(IS_OPEN, containers.c.shard_id.in_({row["shard_id"] for row in rows}))
        .group_by(containers.c.shard_id, containers.c.node)
    )
    open_files = {(shard, node): int(files) for shard, node, files in counted}
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(estates)
    # What was settled once stays settled; what came after is owed anew.
    upsert = insert.on_conflict_do_update(
        index_elements=[estates.c.shard_id, estates.c.node],
        set_={
            "epoch": insert.excluded.epoch,
            "taken_at": insert.excluded.taken_at,
            "local_files": insert.excluded.local_files,
            "open_files": insert.excluded.open_files,
            "owed": True,
        },
    )
    values = [
        {
            **row,
            "taken_at": now,
            "local_files": local.get(row["node"], True),
            "open_files": open_files.get((row["shard_id"], row["node"]), 0),
        }
        for row in rows
    ]
    await connection.execute(upsert, values)


async def settle(connection: AsyncConnection, node: str, taken: Mapping[int, int], *, seq: int) -> None:
    """Mark estates as settled up to `seq`, those that are still of the given epochs."""
    by_epoch: dict[int, list[int]] = {}
    for shard, epoch in sorted(taken.items()):
        by_epoch.setdefault(epoch, []).append(shard)
    for epoch, shards in by_epoch.items():
        for portion in in_portions(shards):
            await connection.execute(
                update(estates)
                .where(and_(_of(node, portion), estates.c.epoch == epoch))
                .values(
                    owed=False,
                    local_files=False,
                    settled_seq=_greater(estates.c.settled_seq, seq, connection),
                )
            )


async def forgive(connection: AsyncConnection, node: str, shards: Sequence[int]) -> None:
    """Stop waiting for what a node alone held."""
    for portion in in_portions(sorted(set(shards))):
        await connection.execute(update(estates).where(_of(node, portion)).values(local_files=False))


async def drop(connection: AsyncConnection, node: str, shards: Sequence[int]) -> None:
    """Remove settled estates."""
    for portion in in_portions(sorted(set(shards))):
        await connection.execute(delete(estates).where(and_(_of(node, portion), estates.c.owed.is_(False))))


def _of(node: str, shards: Sequence[int]) -> Any:
    return and_(estates.c.node == node, estates.c.shard_id.in_(shards))


def _greater(column: Any, value: int, connection: AsyncConnection) -> Any:
    # SQLite's max of two values is PostgreSQL's greatest.
    return func.max(column, value) if connection.dialect.name == "sqlite" else func.greatest(column, value)


def _said(beat: NodeBeat) -> dict[str, Any]:
    return {
        "holder": beat.holder,
        "boot_epoch": beat.boot_epoch,
        "address": beat.address,
        "version": beat.version,
        "capacity": beat.capacity,
        "state": beat.state.value,
        "local_files": beat.local_files,
    }


def _node(row: Row[Any]) -> NodeRow:
    return NodeRow(
        node=row.node,
        holder=row.holder,
        boot_epoch=row.boot_epoch,
        address=row.address,
        version=row.version,
        capacity=row.capacity,
        state=NodeState(row.state),
        local_files=bool(row.local_files),
        started_ms=row.started_at,
        heartbeat_ms=row.heartbeat_at,
        expires_ms=row.expires_at,
    )


def _estate(row: Row[Any]) -> Estate:
    return Estate(
        shard=row.shard_id,
        node=row.node,
        epoch=row.epoch,
        local_files=bool(row.local_files),
        taken_ms=row.taken_at,
        settled_seq=row.settled_seq,
        owed=bool(row.owed),
        open_files=row.open_files,
    )
