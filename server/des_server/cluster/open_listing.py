"""Which files other nodes have open: what a page needs beside this node's own and the containers."""

import asyncio
from typing import Final

import grpc
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import ListFilesRequest, ListFilesResponse
from google.protobuf import timestamp_pb2
from grpc.aio import AioRpcError

from des.cluster import not_shard_owner
from des.db.membership import NodeRow
from des.errors import DesError, UnavailableError
from des.node import ClusterSide
from des.retrieval.listing import ListPosition, ListQuestion, OpenElsewhere
from des_server.cluster.node_keys import OPEN_ONLY_KEY
from des_server.cluster.onward import Onward
from des_server.cluster.owners import WAIT_FIRST_S, WAIT_MAX_S
from des_server.cluster.peers import Peers
from des_server.cluster.remote import FILE_SERVICE
from des_server.from_wire import error_from_call
from des_server.page_tokens import make_token
from des_server.servicers.list_files import sealed_question

ASK_TIMEOUT_S: Final = 10.0
"""For one node's answer, which it has in memory."""


class OpenListing:
    """Asks all nodes that own shards."""

    def __init__(self, cluster: ClusterSide, peers: Peers, *, shard_bits: int, wait_s: float) -> None:
        """Ask for one node.

        Args:
            cluster: what the node knows of the others.
            peers: channels to them.
            shard_bits: of the store.
            wait_s: how long a listing waits for a shard that is between two owners.
        """
        self._cluster = cluster
        self._peers = peers
        self._count = 1 << shard_bits
        self._wait_s = wait_s

    async def ask(
        self, question: ListQuestion, *, after: ListPosition | None, limit: int, call: Onward
    ) -> OpenElsewhere:
        """Return up to `limit` open files of each other node, by name.

        Raises:
            UnavailableError: a shard has no owner that answers, so its open files are not known.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + (
            self._wait_s if call.timeout_s is None else min(self._wait_s, call.timeout_s)
        )
        wait_s = WAIT_FIRST_S
        while True:
            try:
                return await self._ask_all(question, after, limit, call)
            except UnavailableError:
                if loop.time() + wait_s > ends_at:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, WAIT_MAX_S)

    async def _ask_all(
        self, question: ListQuestion, after: ListPosition | None, limit: int, call: Onward
    ) -> OpenElsewhere:
        await self._cluster.refresh()
        shards = sorted(question.shards) if question.shards else range(self._count)
        owners: dict[str, NodeRow] = {}
        for shard in shards:
            if self._cluster.owns(shard):
                continue
            owner = self._cluster.owner(shard)
            if owner is None or not owner.address or owner.node == self._cluster.node:
                raise not_shard_owner(shard, "is between two owners, so its open files are not known now")
            owners[owner.node] = owner
        request = _request(question, after, limit)
        answers = await asyncio.gather(*(self._ask(owner, request, call) for owner in owners.values()))
        ends = [
            ListPosition(answer.files[-1].name[-26:-18], answer.files[-1].name)
            for answer in answers
            if answer.next_page_token and answer.files
        ]
        lost = sorted({estate.node for shard in shards for estate in self._cluster.estates(shard)})
        return OpenElsewhere(
            [file.name for answer in answers for file in answer.files], min(ends, default=None), tuple(lost)
        )

    async def _ask(self, owner: NodeRow, request: ListFilesRequest, call: Onward) -> ListFilesResponse:
        ask: grpc.aio.UnaryUnaryMultiCallable[ListFilesRequest, ListFilesResponse] = self._peers.channel(
            owner.address
        ).unary_unary(
            f"{FILE_SERVICE}/ListFiles",
            request_serializer=ListFilesRequest.SerializeToString,
            response_deserializer=ListFilesResponse.FromString,
        )
        timeout_s = ASK_TIMEOUT_S if call.timeout_s is None else min(ASK_TIMEOUT_S, call.timeout_s)
        try:
            return await ask(request, metadata=(*call.metadata, (OPEN_ONLY_KEY, "1")), timeout=timeout_s)
        except AioRpcError as error:
            told = error_from_call(error)
            if isinstance(told, DesError) and error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise told from error
            raise UnavailableError(
                f"node {owner.node} at {owner.address} does not say what it holds open: {error.details()}",
                retry_after_s=1.0,
            ) from error


def _request(question: ListQuestion, after: ListPosition | None, limit: int) -> ListFilesRequest:
    day = question.day
    request = ListFilesRequest(
        day=f"{day[:4]}-{day[4:6]}-{day[6:]}" if day else "",
        prefix=question.prefix,
        shard_ids=sorted(question.shards),
        page_size=limit,
        view=types_pb2.FILE_VIEW_NAME,
    )
    if question.created_after_ms is not None:
        request.created_after.CopyFrom(_time(question.created_after_ms))
    if question.created_before_ms is not None:
        request.created_before.CopyFrom(_time(question.created_before_ms))
    if after is not None:
        request.page_token = make_token(sealed_question(request), after)
    return request


def _time(ms: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)
