"""What the owners of shards say of them: the state of every shard of the cluster, asked at any node."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import grpc
import structlog
from des_proto.v1.shard_service_pb2 import Shard, ShardStatusRequest, ShardStatusResponse
from grpc.aio import AioRpcError, ServicerContext

from des.db.membership import NodeRow
from des.node import ClusterSide, Node, ShardStatus
from des_server.cluster.onward import OnwardCalls, was_forwarded
from des_server.cluster.peers import Peers
from des_server.convert import shard_to_wire
from des_server.from_wire import shard_from_wire

ASK_TIMEOUT_S: Final = 2.0
LOOK_S: Final = 1.0
"""How often the owners are asked, at most, while somebody watches."""
SHARD_STATUS: Final = "/des.v1.ShardService/ShardStatus"

_log = structlog.get_logger(__name__)


class ClusterStatus:
    """Completes what this node knows of other nodes' shards with what those say."""

    def __init__(self, cluster: ClusterSide, peers: Peers, calls: OnwardCalls) -> None:
        self._cluster = cluster
        self._peers = peers
        self._calls = calls

    async def look(self, node: Node) -> list[ShardStatus]:
        """Return the state of every shard, with what the owners say of theirs."""
        shards = [shard_to_wire(status) for status in await node.shard_status(None)]
        await self.complete(shards)
        return [shard_from_wire(shard) for shard in shards]

    async def complete(
        self, shards: Sequence[Shard], context: "ServicerContext[Any, Any] | None" = None
    ) -> None:
        """Ask each owner once, all at the same time; who does not answer in time is named in `last_error`.

        A question that another node passed on is answered with this node's own knowledge.
        """
        if context is not None and was_forwarded(context):
            return
        by_owner: dict[str, tuple[NodeRow, list[Shard]]] = {}
        for shard in shards:
            owner = self._cluster.owner(shard.shard_id)
            if owner is not None and owner.address and owner.node != self._cluster.node:
                by_owner.setdefault(owner.node, (owner, []))[1].append(shard)
        metadata = self._calls.own() if context is None else self._calls.carried(context)
        await asyncio.gather(*(self._ask(owner, theirs, metadata) for owner, theirs in by_owner.values()))

    async def _ask(self, owner: NodeRow, shards: Sequence[Shard], metadata: Any) -> None:
        ask: grpc.aio.UnaryUnaryMultiCallable[ShardStatusRequest, ShardStatusResponse] = self._peers.channel(
            owner.address
        ).unary_unary(
            SHARD_STATUS,
            request_serializer=ShardStatusRequest.SerializeToString,
            response_deserializer=ShardStatusResponse.FromString,
        )
        answered: dict[int, Shard] = {}
        token = ""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                while True:
                    response = await ask(
                        ShardStatusRequest(shard_ids=_ids(shards), page_token=token),
                        metadata=metadata,
                        timeout=ASK_TIMEOUT_S,
                    )
                    answered.update((shard.shard_id, shard) for shard in response.shards)
                    if not (token := response.next_page_token):
                        break
        except (AioRpcError, TimeoutError) as error:
            _log.info("owner does not say what its shards do", owner=owner.node, error=str(error)[:200])
        for shard in shards:
            theirs = answered.get(shard.shard_id)
            if theirs is not None and theirs.owner_node == owner.node:
                shard.CopyFrom(theirs)
            elif theirs is None:
                note = f"node {owner.node} at {owner.address} does not say what it holds open"
                shard.last_error = f"{shard.last_error}; {note}" if shard.last_error else note


def _ids(shards: Iterable[Shard]) -> list[int]:
    return [shard.shard_id for shard in shards]
