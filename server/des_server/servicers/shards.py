"""`des.v1.ShardService`."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from des_proto.v1.shard_service_pb2 import (
    SealShardRequest,
    SealShardResponse,
    ShardStatusRequest,
    ShardStatusResponse,
    WatchShardStatusRequest,
    WatchShardStatusResponse,
)
from grpc.aio import ServicerContext

from des.errors import InvalidInputError
from des.node import Node, ShardNotFoundError
from des_server import convert
from des_server.cluster.onward import was_forwarded
from des_server.cluster.shard_status import ClusterStatus
from des_server.errors import PageTokenError
from des_server.leaving import Leaving
from des_server.servicers.list_files import page_size

_TOKEN_MARK: Final = "s1."  # noqa: S105  a page token is no secret
"""First characters of a page token: what kind of token, in which version."""


MIN_INTERVAL_S_MAX: Final = 3600


class ShardServicer:
    """Shows and seals shards."""

    def __init__(self, node: Node, leaving: Leaving, cluster_status: ClusterStatus | None = None) -> None:
        self._node = node
        self._leaving = leaving
        self._cluster_status = cluster_status

    async def ShardStatus(  # noqa: N802  the method's name on the wire
        self, request: ShardStatusRequest, context: ServicerContext[ShardStatusRequest, ShardStatusResponse]
    ) -> ShardStatusResponse:
        """Return one page of shards, by number."""
        count = 1 << self._node.settings.shard_bits
        limit = page_size(request.page_size, self._node.settings.limits)
        for shard in request.shard_ids:
            self._check(shard)
        wanted = sorted(set(request.shard_ids)) or range(count)
        start = _shard_of_token(request.page_token, count)
        rest = [shard for shard in wanted if shard >= start]
        page, following = rest[:limit], rest[limit:]
        # Another node asks only what this one has, while it looks for the changes of all.
        revision = 0 if was_forwarded(context) else await self._node.shard_revision()
        statuses = await self._node.shard_status(page) if page else []
        shards = [convert.shard_to_wire(status) for status in sorted(statuses, key=lambda s: s.shard)]
        if self._cluster_status is not None:
            await self._cluster_status.complete(shards, context)
        return ShardStatusResponse(
            shards=shards,
            next_page_token=f"{_TOKEN_MARK}{following[0]}" if following else "",
            revision=revision,
            shard_bits=self._node.settings.shard_bits,
        )

    async def WatchShardStatus(  # noqa: N802  the method's name on the wire
        self,
        request: WatchShardStatusRequest,
        _context: ServicerContext[WatchShardStatusRequest, WatchShardStatusResponse],
    ) -> AsyncIterator[WatchShardStatusResponse]:
        """Send a snapshot, then changes, until the client goes or the server leaves."""
        for shard in request.shard_ids:
            self._check(shard)
        if request.start_revision < 0:
            raise InvalidInputError(
                f"start_revision is {request.start_revision}, expected 0 or more", field="start_revision"
            )
        wait_s = request.min_interval.seconds + request.min_interval.nanos / 1e9
        if not 0 <= wait_s <= MIN_INTERVAL_S_MAX:
            raise InvalidInputError(
                f"min_interval is {wait_s:g} s, expected 0 to {MIN_INTERVAL_S_MAX}", field="min_interval"
            )
        news = self._node.watch_shards(
            frozenset(request.shard_ids), start_revision=request.start_revision, min_interval_s=wait_s
        )
        async with contextlib.aclosing(news) as stream:
            async for each in stream:
                self._leaving.check()
                if each is not None:
                    yield WatchShardStatusResponse(
                        shards=[convert.shard_to_wire(status) for status in each.shards],
                        revision=each.revision,
                        snapshot=each.snapshot,
                    )

    async def SealShard(  # noqa: N802  the method's name on the wire
        self, request: SealShardRequest, _context: ServicerContext[SealShardRequest, SealShardResponse]
    ) -> SealShardResponse:
        """Seal what the shard holds open; repeating it finds nothing more to seal."""
        self._check(request.shard_id)
        rows = await self._node.seal_shard(request.shard_id)
        (status,) = await self._node.shard_status([request.shard_id])
        return SealShardResponse(
            shard=convert.shard_to_wire(status), containers=[convert.container_to_wire(row) for row in rows]
        )

    def _check(self, shard: int) -> None:
        count = 1 << self._node.settings.shard_bits
        if shard >= count:
            raise ShardNotFoundError(
                f"there is no shard {shard}, the store has {count}", shard_id=shard, shard_count=count
            )


def _shard_of_token(token: str, count: int) -> int:
    """Return the shard a page starts at.

    Raises:
        PageTokenError: not a token of this method.
    """
    if not token:
        return 0
    digits = token.removeprefix(_TOKEN_MARK)
    if digits == token or not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        raise PageTokenError(f"page token {token!r} is not from ShardStatus", page_token=token)
    if (shard := int(digits)) >= count:
        raise PageTokenError(f"page token {token!r} is past the last shard", page_token=token)
    return shard
