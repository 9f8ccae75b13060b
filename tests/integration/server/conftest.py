"""A server on a real port over a node that tests can make slow, ill or full."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import google_crc32c
import grpc
import pytest
from des_server.app import DesServer, build_server
from des_server.errors import ShuttingDownError
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from des.assignment import AssignedName
from des.config import LimitSettings, Settings
from des.db.catalog import ContainerGeometry, ContainerRow, ContainerState, ShardRun
from des.errors import DesError, NotFoundError
from des.files import Durability, FileInfo, FileSpec, FileState
from des.node import NodeHealth, PutResult, ShardStatus
from des.node.shard_watch import ShardNews
from des.retrieval import Part, ReadCost
from des.retrieval.listing import ListPage
from des.storage.object_store import Capabilities

DAY_MS = 1_795_392_000_000


@dataclass
class DoubleUpload:
    node: "DoubleNode"
    spec: FileSpec
    parts: list[bytes] = field(default_factory=list)
    state: str = "open"

    @property
    def received(self):
        return sum(map(len, self.parts))

    async def write(self, data):
        await self.node.pause()
        self.parts.append(data)

    async def finish(self, crc32c, sha256=None):
        self.state = "finished"
        return await self.node.put_bytes(
            self.spec, b"".join(self.parts), google_crc32c.value(b"".join(self.parts))
        )

    async def abort(self):
        if self.state == "open":
            self.state = "aborted"
            self.parts.clear()


@dataclass
class DoubleOpened:
    info: FileInfo
    data: bytes
    cost: ReadCost = field(default_factory=lambda: ReadCost(1, 77))
    blocks_read: int = 0
    ended: bool = False

    async def read(self, start, stop):
        try:
            for at in range(start, stop, 1 << 20):
                self.blocks_read += 1
                yield self.data[at : min(stop, at + (1 << 20))]
        finally:
            self.ended = True

    async def read_whole(self):
        return self.data


@dataclass
class DoubleResumable:
    node: "DoubleNode"

    async def status(self, upload_id):
        await self.node.pause()
        return 7

    async def cancel(self, upload_id):
        await self.node.pause()


class DoubleNode:
    """Keeps files in memory. `error` is raised, `gate` waited for, before anything is done."""

    def show_metrics(self, registry: object) -> None:
        pass

    def backlog(self):
        return (3, 30)

    async def day_totals(self, days_max):
        return []

    def health_checks(self):
        return []

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.node_uuid = "0" * 32
        self.store_id = "store-1"
        self.node_id = settings.node_id
        self.cluster = None
        self.started_ms = DAY_MS
        self.files: dict[str, tuple[FileInfo, bytes]] = {}
        self.specs: list[FileSpec] = []
        self.begun: list[DoubleUpload] = []
        self.uploads = DoubleResumable(self)
        self.opened: list[DoubleOpened] = []
        self.error: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.told = NodeHealth(writable=True, readable=True, cause="")
        self.closed = False

    async def pause(self) -> None:
        if self.gate is not None:
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed = True

    async def assign_names(self, count: int, prefix: str, request_id: str) -> list[AssignedName]:
        await self.pause()
        return [AssignedName(f"{prefix or 'DES'}_{n}", n, "20261123") for n in range(count or 1)]

    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult:
        await self.pause()
        assert google_crc32c.value(data) == crc32c
        self.specs.append(spec)
        name = spec.name or f"DES_{len(self.files)}"
        existed = name in self.files
        info = FileInfo(
            name=name,
            day="20261123",
            shard=3,
            size=len(data),
            crc32c=crc32c,
            content_type=spec.content_type,
            metadata=dict(spec.metadata),
            state=FileState.OPEN,
            created_ms=DAY_MS + 5,
        )
        self.files[name] = (info, data)
        return PutResult(info, already_existed=existed, durability=Durability.LOCAL)

    async def begin_put(self, spec: FileSpec) -> DoubleUpload:
        self.begun.append(DoubleUpload(self, spec))
        return self.begun[-1]

    async def open_file(self, name: str) -> DoubleOpened:
        await self.pause()
        try:
            self.opened.append(DoubleOpened(*self.files[name]))
            return self.opened[-1]
        except KeyError:
            raise NotFoundError(f"no file {name!r}", name=name) from None

    async def stat(self, name: str) -> FileInfo:
        return (await self.open_file(name)).info

    async def read_many(self, wanted, *, part_bytes, cost):
        await self.pause()
        for at, (name, _, _) in enumerate(wanted):
            info, data = self.files[name]
            yield [Part(at, info, 0, data, info.crc32c, last=True)]

    async def stat_many(self, names, *, cost):
        await self.pause()
        missing = NotFoundError("no file")
        return [self.files[name][0] if name in self.files else missing for name in names]

    async def delete_many(self, names, *, allow_missing):
        await self.pause()
        return [self.files.pop(name)[0] for name in names]

    async def shard_revision(self):
        return 7

    async def watch_shards(self, shards, *, start_revision, min_interval_s):
        await self.pause()
        yield ShardNews(await self.shard_status(None), 7, snapshot=True)
        raise ShuttingDownError("over")

    async def list_files(self, question, *, after, limit, names_only, cost):
        await self.pause()
        return ListPage([info for info, _ in self.files.values()], None)

    async def wait_stored(self, names: Sequence[str]) -> list[FileInfo | DesError]:
        await self.pause()
        return [(await self.open_file(name)).info for name in names]

    async def shard_status(self, shards: Sequence[int] | None) -> list[ShardStatus]:
        wanted = range(1 << self.settings.shard_bits) if shards is None else shards
        return [
            ShardStatus(n, "active", "node-1", 4, 1, 10, 2, 20, 1, 1.5, DAY_MS, DAY_MS + 1, "")
            for n in wanted
        ]

    async def seal_shard(self, shard: int) -> list[ContainerRow]:
        await self.pause()
        return [
            ContainerRow(
                container_id="0190-7",
                day="20261123",
                run=ShardRun(shard, 1, self.settings.shard_bits),
                key="2026-11-23/03/0190-7.des",
                state=ContainerState.STORED,
                epoch=4,
                layout="framed",
                sha256="00" * 32,
                geometry=ContainerGeometry(1000, 16, 100, 116, 0, 116, 40, 2),
                name_ms_first=DAY_MS,
                name_ms_last=DAY_MS,
                data_bytes=20,
                node="node-1",
            )
        ]

    async def capabilities(self) -> Capabilities:
        return Capabilities("local", True, True, False, False)

    def health(self) -> NodeHealth:
        return self.told


@pytest.fixture
def limits() -> LimitSettings:
    """Overridden by modules that need other limits."""
    return LimitSettings()


@pytest.fixture
def settings(tmp_path, limits) -> Settings:
    return Settings(data_dir=tmp_path, listen="127.0.0.1:0", http_listen="", shard_bits=4, limits=limits)


@pytest.fixture
def double(settings) -> DoubleNode:
    return DoubleNode(settings)


@pytest.fixture
async def server(double, settings) -> AsyncIterator[DesServer]:
    server = build_server(double, settings, registry=CollectorRegistry())
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        yield channel


@dataclass(frozen=True)
class Refusal:
    """A failed call, as a client sees it."""

    code: grpc.StatusCode
    message: str
    reason: str
    facts: dict[str, str]
    kinds: set[str]
    trailers: dict[str, str | bytes]


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    trailers = dict(error.trailing_metadata())
    rich = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert rich.code == error.code().value[0]
    assert rich.message == error.details()
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert info.domain == "des.storage"
    kinds = {detail.TypeName().rpartition(".")[2] for detail in rich.details}
    return Refusal(error.code(), error.details(), info.reason, dict(info.metadata), kinds, trailers)


@pytest.fixture
def refusal():
    """`async with refusal() as refused:` around a call that fails; `refused()` is what it failed with."""

    @contextlib.asynccontextmanager
    async def expect():
        caught: list[Refusal] = []
        try:
            yield lambda: caught[0]
        except grpc.aio.AioRpcError as error:
            caught.append(read_refusal(error))
        else:
            pytest.fail("the call succeeded")

    return expect
