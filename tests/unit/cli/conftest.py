"""A store in memory behind the real protocol, and the command run against it as a process of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import grpc
import pytest
from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    naming_service_pb2,
    naming_service_pb2_grpc,
    shard_service_pb2,
    shard_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
    types_pb2,
)
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

CHUNK = 64 << 10


def refuse(context, code: grpc.StatusCode, reason: str, message: str) -> None:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="des.storage"))
    context.abort_with_status(
        rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=[detail]))
    )


@dataclass
class Stored:
    data: bytes
    spec: types_pb2.FileInfo


@dataclass
class Store:
    """What the double holds, and what tests tell it to do wrong."""

    files: dict[str, Stored] = field(default_factory=dict)
    shards: list[shard_service_pb2.Shard] = field(default_factory=list)
    refusals: list[tuple[grpc.StatusCode, str, str]] = field(default_factory=list)
    """Answers to the next writes."""
    put_gate: threading.Event = field(default_factory=threading.Event)
    """Puts wait for it."""
    damaged: set[str] = field(default_factory=set)
    """Names whose reads report corruption."""
    puts_seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0

    def next_name(self, prefix: str) -> str:
        with self.lock:
            self.count += 1
            digits = f"{self.count:012X}"
            checksum = sum(bytes.fromhex(digits)) % 256
            return f"{prefix or 'DES'}_20260115_({digits}_{checksum:02X})"


class Files(file_service_pb2_grpc.FileServiceServicer):
    def __init__(self, store: Store) -> None:
        self.store = store

    def PutFile(self, request_iterator, context):
        spec, data = None, bytearray()
        for request in request_iterator:
            if request.HasField("spec"):
                spec = request.spec
            data += request.chunk.data
        self.store.puts_seen += 1
        self.store.put_gate.wait(60)
        if self.store.refusals:
            refuse(context, *self.store.refusals.pop(0))
        name = spec.name or self.store.next_name(spec.prefix)
        known = self.store.files.get(name)
        if known is not None and known.data != data:
            refuse(context, grpc.StatusCode.ALREADY_EXISTS, "NAME_CONFLICT", f"{name} holds other content")
        info = types_pb2.FileInfo(
            name=name,
            shard_id=len(name) % 256,
            size_bytes=len(data),
            checksums=types_pb2.Checksums(crc32c=google_crc32c.value(bytes(data))),
            content_type=spec.content_type,
            state=types_pb2.FILE_STATE_OPEN,
            metadata=spec.metadata,
        )
        info.create_time.GetCurrentTime()
        self.store.files[name] = Stored(bytes(data), info)
        return file_service_pb2.PutFileResponse(
            file=info, already_existed=known is not None, durability=types_pb2.DURABILITY_LOCAL
        )

    def _find(self, name: str, context) -> Stored:
        if name not in self.store.files:
            refuse(context, grpc.StatusCode.NOT_FOUND, "FILE_NOT_FOUND", f"no file {name!r}")
        return self.store.files[name]

    def GetFile(self, request, context):
        found = self._find(request.name, context)
        if request.name in self.store.damaged:
            refuse(context, grpc.StatusCode.DATA_LOSS, "CONTAINER_CORRUPT", f"{request.name} is damaged")
        size = len(found.data)
        start = request.range.offset if request.range.offset >= 0 else max(0, size + request.range.offset)
        if start > size:
            refuse(context, grpc.StatusCode.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE", f"file has {size} bytes")
        end = min(size, start + request.range.limit) if request.range.limit else size
        first = file_service_pb2.GetFileResponse(
            file=found.spec,
            content_range=types_pb2.ContentRange(start=start, end=end, total_size=size),
        )
        first.chunk.data = found.data[start : min(end, start + CHUNK)]
        yield first
        for at in range(start + CHUNK, end, CHUNK):
            yield file_service_pb2.GetFileResponse(
                chunk=types_pb2.DataChunk(data=found.data[at : min(end, at + CHUNK)])
            )

    def StatFile(self, request, context):
        return file_service_pb2.StatFileResponse(file=self._find(request.name, context).spec)


class Names(naming_service_pb2_grpc.NamingServiceServicer):
    def __init__(self, store: Store) -> None:
        self.store = store

    def AssignName(self, request, context):
        return naming_service_pb2.AssignNameResponse(
            names=[
                naming_service_pb2.AssignedName(
                    name=self.store.next_name(request.prefix), shard_id=7, day="2026-01-15"
                )
                for _ in range(request.count or 1)
            ]
        )


class Shards(shard_service_pb2_grpc.ShardServiceServicer):
    def __init__(self, store: Store) -> None:
        self.store = store

    def ShardStatus(self, request, context):
        wanted = set(request.shard_ids)
        shards = [one for one in self.store.shards if not wanted or one.shard_id in wanted]
        return shard_service_pb2.ShardStatusResponse(shards=shards, shard_bits=8)

    def SealShard(self, request, context):
        shard = next((one for one in self.store.shards if one.shard_id == request.shard_id), None)
        if shard is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, "SHARD_NOT_FOUND", f"no shard {request.shard_id}")
        container = shard_service_pb2.SealedContainer(
            container_id="0190",
            day="2026-01-15",
            shard_id=shard.shard_id,
            shard_span=1,
            key=f"2026-01-15/{shard.shard_id:02x}/0190.des",
            file_count=shard.open_files,
            size_bytes=shard.open_bytes,
        )
        return shard_service_pb2.SealShardResponse(shard=shard, containers=[container])


class System(system_service_pb2_grpc.SystemServiceServicer):
    def GetServerInfo(self, request, context):
        return system_service_pb2.GetServerInfoResponse(
            server_version="9.8.7",
            api_versions=["des.v1"],
            limits=types_pb2.Limits(
                max_chunk_bytes=2 << 20, preferred_chunk_bytes=1 << 20, max_names_per_assign=1000
            ),
            store_id="5e1f",
        )


class Double:
    """The store behind a port of its own."""

    def __init__(self) -> None:
        self.store = Store()
        self.store.put_gate.set()
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        file_service_pb2_grpc.add_FileServiceServicer_to_server(Files(self.store), self._server)
        naming_service_pb2_grpc.add_NamingServiceServicer_to_server(Names(self.store), self._server)
        shard_service_pb2_grpc.add_ShardServiceServicer_to_server(Shards(self.store), self._server)
        system_service_pb2_grpc.add_SystemServiceServicer_to_server(System(), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def server() -> Iterator[Double]:
    double = Double()
    yield double
    double.store.put_gate.set()
    double.stop()


@dataclass(frozen=True)
class Ran:
    """What one run of the command gave."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """Runs `des`, in an environment without any DES variable of the machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("DES_")}

    def __call__(self, *args: object, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            self.line(*args),
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode())

    def line(self, *args: object) -> list[str]:
        return [sys.executable, "-m", "des.cli", *map(str, args)]


@pytest.fixture
def des(tmp_path: Path) -> Command:
    folder = tmp_path / "cwd"
    folder.mkdir()
    return Command(folder)


@pytest.fixture
def store(server: Double, des: Command) -> Store:
    """The double's content, with the command pointed at it."""
    des.environment["DES_ADDRESS"] = server.address
    return server.store
