"""Statements over `des_nodes` and `des_node_ids`; each is part of a transaction."""

from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db import estates, shard_locks, sharding
from des.db.catalog import ShardClaim, ShardLock
from des.db.membership import ClusterView, NameLease, NodeBeat, NodeRow, NodeState
from des.db.rules import check_beat, choose_node_id
from des.db.schema import node_ids, nodes
from des.db.statements import greater, insert_if_absent, now_ms


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
    # One moment for the locks and for the node: who sees the locks expired must not find their node alive.
    now = await shard_locks.renew_all(connection, claim, ttl_ms=ttl_ms)
    values = {**_said(beat), "heartbeat_at": now, "expires_at": now + ttl_ms}
    await connection.execute(update(nodes).where(nodes.c.node == beat.node).values(values))
    await connection.execute(
        update(node_ids)
        .where(node_ids.c.node == beat.node)
        .values(used_at=now, floor_ms=greater(node_ids.c.floor_ms, beat.name_floor_ms, connection))
    )
    return await view(connection)


async def view(connection: AsyncConnection) -> ClusterView:
    """Return nodes, locks and estates. Locks of shards that are none any more are left out."""
    found_nodes = await connection.execute(select(nodes).order_by(nodes.c.node))
    divided = await sharding.find(connection)
    count = None if divided is None else 1 << divided.bits
    return ClusterView(
        now_ms=await now_ms(connection),
        nodes=tuple(_node(row) for row in found_nodes),
        locks=tuple(
            lock for lock in await shard_locks.every(connection) if count is None or lock.shard < count
        ),
        estates=tuple(await estates.every(connection)),
        sharding=divided,
    )


async def transfer(
    connection: AsyncConnection, claim: ShardClaim, *, holder: str, node: str, ttl_ms: int
) -> list[ShardLock]:
    """Give the claim's locks to another holder; return them, by shard."""
    return await shard_locks.hand_over(connection, claim, holder=holder, node=node, ttl_ms=ttl_ms)


def _said(beat: NodeBeat) -> dict[str, Any]:
    return {
        "holder": beat.holder,
        "boot_epoch": beat.boot_epoch,
        "address": beat.address,
        "version": beat.version,
        "capacity": beat.capacity,
        "state": beat.state.value,
        "local_files": beat.local_files,
        "names_bound_by": "" if beat.named_until_ms is None else beat.holder,
        "named_until": beat.named_until_ms or 0,
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
        named_until_ms=row.named_until if row.names_bound_by == row.holder else None,
    )
