"""Many files per message beside one file per call: what the batch path adds, in one run.

    python benchmarks/bench_batch.py [--seconds 2] [--rounds 3] [--files 20000]

One server process, one client process, 4 KiB files that do not compress. The rounds go through all kinds
in turn; medians are printed. `server us` is the server's own CPU time per file.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import grpc
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    BatchReadFilesRequest,
    BatchWriteFilesRequest,
    FileSpec,
    GetFileRequest,
    PutFileRequest,
    ReadItem,
    WriteItem,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub

sys.path.insert(0, str(Path(__file__).parent))
from bench_grpc import SHARD_BITS, Server

KIB = 1 << 10
FILE_BYTES = 4 * KIB
PER_MESSAGE = 240
IN_FLIGHT = 64
ITEMS_PER_READ = 5_000
OPTIONS = [("grpc.max_receive_message_length", 4 << 20)]


@dataclass
class Row:
    files_s: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)


def make_messages(count: int) -> list[BatchWriteFilesRequest]:
    messages, index = [], 0
    while index < count:
        message = BatchWriteFilesRequest()
        for _ in range(min(PER_MESSAGE, count - index)):
            data = os.urandom(FILE_BYTES)
            chunk = types_pb2.DataChunk(data=data, crc32c=google_crc32c.value(data))
            message.items.append(WriteItem(index=index, spec=FileSpec(size_bytes=FILE_BYTES), chunk=chunk))
            index += 1
        messages.append(message)
    return messages


async def batch_write(stub: FileServiceStub, messages: list[BatchWriteFilesRequest]) -> list[str]:
    async def send() -> AsyncIterator[BatchWriteFilesRequest]:
        for message in messages:
            yield message

    names: list[str] = []
    async for answer in stub.BatchWriteFiles(send()):
        for result in answer.results:
            assert not result.HasField("status"), result.status
            names.append(result.file.name)
    assert len(names) == sum(len(message.items) for message in messages)
    return names


async def batch_read(stub: FileServiceStub, names: list[str]) -> int:
    read = 0
    for start in range(0, len(names), ITEMS_PER_READ):
        wanted = names[start : start + ITEMS_PER_READ]
        request = BatchReadFilesRequest(items=[ReadItem(name=name) for name in wanted])
        async for message in stub.BatchReadFiles(request):
            for part in message.parts:
                assert len(part.chunk.data) == FILE_BYTES, part.status
                read += 1
    assert read == len(names)
    return read


async def unary(seconds: float, call: Callable[[], Awaitable[None]]) -> int:
    end = time.perf_counter() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    await asyncio.gather(*[worker() for _ in range(IN_FLIGHT)])
    return done


def putting(stub: FileServiceStub) -> Callable[[], Awaitable[None]]:
    data = os.urandom(FILE_BYTES)
    chunk = types_pb2.DataChunk(data=data, crc32c=google_crc32c.value(data))
    message = PutFileRequest(spec=FileSpec(size_bytes=FILE_BYTES), chunk=chunk, finish=True)

    async def put() -> None:
        await stub.PutFile(iter([message]))

    return put


def getting(stub: FileServiceStub, names: list[str]) -> Callable[[], Awaitable[None]]:
    turn = 0

    async def get() -> None:
        nonlocal turn
        turn += 1
        async for message in stub.GetFile(GetFileRequest(name=names[turn % len(names)])):
            assert len(message.chunk.data) == FILE_BYTES

    return get


async def measure(server: Server, seconds: float, rounds: int, files: int) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    async with grpc.aio.insecure_channel(server.address, options=OPTIONS) as channel:
        stub = FileServiceStub(channel)
        messages = make_messages(files)
        sealed = await batch_write(stub, messages)
        for shard in range(1 << SHARD_BITS):
            await ShardServiceStub(channel).SealShard(SealShardRequest(shard_id=shard))
        unsealed = await batch_write(stub, messages)

        async def written() -> int:
            return len(await batch_write(stub, messages))

        kinds: dict[str, Callable[[], Awaitable[int]]] = {
            "PutFile": lambda: unary(seconds, putting(stub)),
            "BatchWriteFiles": written,
            "GetFile, open": lambda: unary(seconds, getting(stub, unsealed)),
            "BatchReadFiles, open": lambda: batch_read(stub, unsealed),
            "GetFile, sealed": lambda: unary(seconds, getting(stub, sealed)),
            "BatchReadFiles, sealed": lambda: batch_read(stub, sealed),
        }
        for number in range(rounds + 1):
            for kind, run in kinds.items():
                before, begun = server.cpu_s(), time.perf_counter()
                done = await run()
                took = time.perf_counter() - begun
                if number:  # the first round warms up
                    row = rows.setdefault(kind, Row())
                    row.files_s.append(done / took)
                    row.server_us.append((server.cpu_s() - before) / done * 1e6)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=20_000)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(
            [
                *(sys.executable, "-m", "des_server", "--data-dir", folder),
                *("--listen", "127.0.0.1:0", "--http-listen", ""),
            ]
        )
        try:
            rows = asyncio.run(measure(server, flags.seconds, flags.rounds, flags.files))
        finally:
            server.stop()
    print(f"{FILE_BYTES // KIB} KiB, one client, median of {flags.rounds} rounds of {flags.files} files")
    for kind, row in rows.items():
        rate, cpu = statistics.median(row.files_s), statistics.median(row.server_us)
        print(f"  {kind:24} {rate:8.0f} files/s   server {cpu:4.0f} us/file")


if __name__ == "__main__":
    main()
