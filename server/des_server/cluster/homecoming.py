"""Brings files home that this node's log holds of shards which other nodes own now (docs/cluster.md).

A node that was away finds in its log what it acknowledged alone. Each such file is put, under its own
name, at the shard's owner, who may have it already; only then does the log let go of it. A name that
the owner has with other content stays here, is reported, and is nobody's to decide but a person's.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import google_crc32c
import grpc
import structlog
from des_proto.v1.file_service_pb2 import FileSpec as WireSpec
from des_proto.v1.file_service_pb2 import PutFileRequest, PutFileResponse
from grpc.aio import AioRpcError

from des.cluster import coming_home
from des.config import LimitSettings
from des.db.membership import NodeRow
from des.errors import AlreadyExistsError, DesError, UnavailableError
from des.files import FileInfo, FileSpec
from des.ingest.values import OpenFile
from des.node import Node
from des.retrieval import OpenedFile
from des.retrieval.tombstones import NameDeletedError
from des_server.cluster.node_keys import HOME_KEY
from des_server.cluster.onward import OnwardCalls
from des_server.cluster.peers import Peers
from des_server.status import STATUS_KEY, info_in

INTERVAL_S: Final = 0.5
AT_ONCE: Final = 16
PUT_TIMEOUT_S: Final = 60.0
CONFLICT_RETRY_S: Final = 600.0
PUT_FILE: Final = "/des.v1.FileService/PutFile"
HAS_IT: Final = frozenset({"FILE_DELETED"})
"""Refusals that mean that the owner knows the file."""
CONFLICTS: Final = frozenset({"NAME_CONFLICT", "REQUEST_ID_CONFLICT"})

_log = structlog.get_logger(__name__)


class HomecomingError(UnavailableError):
    """A file was not taken by its shard's owner; it is tried again."""


class Homecoming:
    """Background work of one node in a cluster."""

    def __init__(self, node: Node, peers: Peers, calls: OnwardCalls, limits: LimitSettings) -> None:
        assert node.cluster is not None, "only a node in a cluster has files that belong elsewhere"
        self._node = node
        self._cluster = node.cluster
        self._peers = peers
        self._calls = calls
        self._chunk_bytes = int(limits.preferred_chunk_bytes)
        self._not_before: dict[str, float] = {}
        """Names whose owner has other content, and when to ask again."""
        self.brought = 0
        """Files that their owners have by now."""

    @property
    def conflicts(self) -> int:
        """Files whose name stands for other content at the shard's owner."""
        return len(self._not_before)

    async def run(self) -> None:
        """Bring files home until cancelled; what fails is tried again."""
        while True:
            try:
                await self.step()
            except DesError as error:
                _log.warning("files are not home yet", error=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def step(self) -> None:
        """Try every file once.

        Raises:
            DesError: the first failure; the others were tried all the same.
        """
        now = asyncio.get_running_loop().time()
        waiting = [f for f in self._cluster.foreign_files() if self._not_before.get(f.name, 0.0) <= now]
        errors: list[DesError] = []
        files = iter(waiting)

        async def work() -> None:
            for file in files:
                try:
                    await self._bring(file)
                except DesError as error:
                    errors.append(error)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, len(waiting))):
                tasks.create_task(work())
        await self._cluster.settle_estates()
        if errors:
            raise errors[0]

    async def _bring(self, file: OpenFile) -> None:
        opened = self._cluster.open_foreign(file)
        owner = self._cluster.owner(file.shard)
        try:
            if self._cluster.owns(file.shard):
                await self._put_here(opened)
            elif owner is not None and owner.address and owner.node != self._cluster.node:
                await self._put_there(opened, owner)
            else:
                return
        except NameDeletedError:
            pass  # the owner knows the file: it was deleted
        except AlreadyExistsError as error:
            _log.error("a file that this node acknowledged has other content elsewhere", error=str(error))
            self._not_before[file.name] = asyncio.get_running_loop().time() + CONFLICT_RETRY_S
            return
        self._not_before.pop(file.name, None)
        self._cluster.brought_home(file)
        self.brought += 1

    async def _put_here(self, opened: OpenedFile) -> None:
        info = opened.info
        with coming_home():
            upload = await self._node.begin_put(
                FileSpec(
                    name=info.name, size=info.size, content_type=info.content_type, metadata=info.metadata
                )
            )
            try:
                async for data in opened.read(0, info.size):
                    await upload.write(data)
                await upload.finish(info.crc32c)
            finally:
                await upload.abort()

    async def _put_there(self, opened: OpenedFile, owner: NodeRow) -> None:
        put: grpc.aio.StreamUnaryMultiCallable[PutFileRequest, PutFileResponse] = self._peers.channel(
            owner.address
        ).stream_unary(
            PUT_FILE,
            request_serializer=PutFileRequest.SerializeToString,
            response_deserializer=PutFileResponse.FromString,
        )
        metadata = self._calls.own((HOME_KEY, self._cluster.node))
        try:
            await put(self._messages(opened), metadata=metadata, timeout=PUT_TIMEOUT_S)
        except AioRpcError as error:
            status = next((v for k, v in error.trailing_metadata() or () if k == STATUS_KEY), b"")
            reason, facts = info_in(status) if isinstance(status, bytes) else ("", {})
            if reason in HAS_IT or "delete_time" in facts:
                return
            kind = AlreadyExistsError if reason in CONFLICTS else HomecomingError
            raise kind(
                f"node {owner.node} did not take {opened.info.name!r}: {error.code().name} {error.details()}"
            ) from error

    async def _messages(self, opened: OpenedFile) -> AsyncIterator[PutFileRequest]:
        info = opened.info
        offset = 0
        message = _first(info)
        async for block in opened.read(0, info.size):
            for start in range(0, len(block), self._chunk_bytes):
                data = block[start : start + self._chunk_bytes]
                message.write_offset = offset
                message.chunk.data = data
                message.chunk.crc32c = google_crc32c.value(data)
                offset += len(data)
                if offset < info.size:
                    yield message
                    message = PutFileRequest()
        message.checksums.crc32c = info.crc32c
        message.finish = True
        yield message


def _first(info: FileInfo) -> PutFileRequest:
    return PutFileRequest(
        spec=WireSpec(
            name=info.name, size_bytes=info.size, content_type=info.content_type, metadata=dict(info.metadata)
        )
    )
