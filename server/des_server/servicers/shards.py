"""`des.v1.ShardService`."""

from typing import Final

from des_proto.v1.shard_service_pb2 import (
    SealShardRequest,
    SealShardResponse,
    ShardStatusRequest,
    ShardStatusResponse,
)
from grpc.aio import ServicerContext

from des.errors import InvalidInputError
from des.node import Node
from des.node.node import ShardNotFoundError
from des_server import convert
from des_server.errors import PageTokenError

_TOKEN_MARK: Final = "s1."  # noqa: S105  a page token is no secret
"""First characters of a page token: what kind of token, in which version."""


class ShardServicer:
    """Shows and seals shards."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ShardStatus(  # noqa: N802  the method's name on the wire
        self, request: ShardStatusRequest, _context: ServicerContext[ShardStatusRequest, ShardStatusResponse]
    ) -> ShardStatusResponse:
        """Return one page of shards, by number."""
        count = 1 << self._node.settings.shard_bits
        page_size = self._page_size(request.page_size)
        for shard in request.shard_ids:
            self._check(shard)
        wanted = sorted(set(request.shard_ids)) or range(count)
        start = _shard_of_token(request.page_token, count)
        rest = [shard for shard in wanted if shard >= start]
        page, following = rest[:page_size], rest[page_size:]
        statuses = await self._node.shard_status(page) if page else []
        return ShardStatusResponse(
            shards=[convert.shard_to_wire(status) for status in sorted(statuses, key=lambda s: s.shard)],
            next_page_token=f"{_TOKEN_MARK}{following[0]}" if following else "",
            revision=self._node.revision,
            shard_bits=self._node.settings.shard_bits,
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

    def _page_size(self, asked: int) -> int:
        limit = self._node.settings.limits.page_size
        if asked < 0:
            raise InvalidInputError(f"page_size is {asked}, expected 0 or more", field="page_size")
        return min(asked or limit, limit)


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
