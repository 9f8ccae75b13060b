"""What the service adds to gRPC itself: DES beside handlers of the same shape that do nothing.

    python benchmarks/bench_grpc.py [--seconds 3] [--rounds 3] [--stream-mib 1024]

One server process per kind, the client here, 4 KiB files, 64 calls in flight. The rounds go through
all kinds in turn, so that a noisy neighbour hits all of them; the medians are printed. `server us`
is the server's own CPU time per call: it does not depend on how fast the client is.
"""

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import grpc
import psutil
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    FileSpec,
    GetFileRequest,
    GetFileResponse,
    PutFileRequest,
    PutFileResponse,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub

KIB = 1 << 10
MIB = 1 << 20
FILE_BYTES = 4 * KIB
IN_FLIGHT = 64
FILES = 256
SHARD_BITS = 2
SERVING = re.compile(r"gRPC on (127\.0\.0\.1:\d+)")


async def serve_empty() -> None:
    """Handlers of the same shape that keep nothing: a put's answer, a get's cached message."""
    cached = GetFileResponse(
        file=types_pb2.FileInfo(
            name="X" * 30, size_bytes=FILE_BYTES, checksums=types_pb2.Checksums(crc32c=1)
        ),
        chunk=types_pb2.DataChunk(data=bytes(FILE_BYTES), crc32c=1),
    )
    stored = PutFileResponse(file=cached.file, durability=types_pb2.DURABILITY_LOCAL)
    big = GetFileResponse(chunk=types_pb2.DataChunk(data=bytes(MIB), crc32c=1))

    async def put(requests: AsyncIterator[PutFileRequest], _context: object) -> PutFileResponse:
        async for _ in requests:
            pass
        return stored

    async def get(request: GetFileRequest, _context: object) -> AsyncIterator[GetFileResponse]:
        if request.range.limit:
            for _ in range(request.range.limit // MIB):
                yield big
        else:
            yield cached

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_registered_method_handlers(
        "des.v1.FileService",
        {
            "PutFile": grpc.stream_unary_rpc_method_handler(
                put, PutFileRequest.FromString, PutFileResponse.SerializeToString
            ),
            "GetFile": grpc.unary_stream_rpc_method_handler(
                get, GetFileRequest.FromString, GetFileResponse.SerializeToString
            ),
        },
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"gRPC on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


@dataclass
class Server:
    """A server process and what it used."""

    command: list[str]
    address: str = ""
    shard_bits: int = SHARD_BITS

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DES_LOG_LEVEL": "error", "DES_SHARD_BITS": str(self.shard_bits)},
        )
        found = SERVING.search(self.process.stdout.readline())
        assert found, "the server did not start"
        self.address = found[1]
        self.usage = psutil.Process(self.process.pid)

    def cpu_s(self) -> float:
        times = self.usage.cpu_times()
        return times.user + times.system

    def rss_peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


@dataclass
class Row:
    """The rounds of one kind of call."""

    calls_s: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)


async def load(seconds: float, call: Callable[[], Awaitable[None]]) -> float:
    """Keep `IN_FLIGHT` calls going for some time; return calls per second."""
    end = time.perf_counter() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    begun = time.perf_counter()
    await asyncio.gather(*[worker() for _ in range(IN_FLIGHT)])
    return done / (time.perf_counter() - begun)


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


async def put_names(stub: FileServiceStub) -> list[str]:
    chunk = types_pb2.DataChunk(data=os.urandom(FILE_BYTES))
    message = PutFileRequest(spec=FileSpec(), chunk=chunk, finish=True)
    answers = await asyncio.gather(*[stub.PutFile(iter([message])) for _ in range(FILES)])
    return [answer.file.name for answer in answers]


async def measure_calls(empty: Server, des: Server, seconds: float, rounds: int) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    async with (
        grpc.aio.insecure_channel(empty.address) as empty_channel,
        grpc.aio.insecure_channel(des.address) as des_channel,
    ):
        nothing, files = FileServiceStub(empty_channel), FileServiceStub(des_channel)
        sealed = await put_names(files)
        for shard in range(1 << SHARD_BITS):
            await ShardServiceStub(des_channel).SealShard(SealShardRequest(shard_id=shard))
        unsealed = await put_names(files)
        kinds = {
            "empty put": (empty, putting(nothing)),
            "PutFile, durable": (des, putting(files)),
            "empty get": (empty, getting(nothing, ["x"])),
            "GetFile, open": (des, getting(files, unsealed)),
            "GetFile, sealed": (des, getting(files, sealed)),
        }
        for number in range(rounds + 1):
            for kind, (server, call) in kinds.items():
                before = server.cpu_s()
                rate = await load(seconds if number else 0.5, call)
                if number:  # the first round warms up
                    row = rows.setdefault(kind, Row())
                    row.calls_s.append(rate)
                    row.server_us.append((server.cpu_s() - before) / (rate * seconds) * 1e6)
    return rows


async def stream_in(server: Server, mib: int) -> float:
    data = os.urandom(MIB)
    crc = google_crc32c.value(data)

    async def messages() -> AsyncIterator[PutFileRequest]:
        for n in range(mib):
            yield PutFileRequest(
                spec=FileSpec(size_bytes=mib * MIB) if n == 0 else None,
                write_offset=n * MIB,
                chunk=types_pb2.DataChunk(data=data, crc32c=crc),
                finish=n == mib - 1,
            )

    async with grpc.aio.insecure_channel(server.address) as channel:
        begun = time.perf_counter()
        answer = await FileServiceStub(channel).PutFile(messages())
        stream_in.name = answer.file.name
        return mib * MIB / 1e6 / (time.perf_counter() - begun)


async def stream_out(server: Server, name: str, mib: int) -> float:
    request = GetFileRequest(name=name, range=types_pb2.ByteRange(limit=mib * MIB))
    options = [("grpc.max_receive_message_length", 4 * MIB)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        begun, received = time.perf_counter(), 0
        async for message in FileServiceStub(channel).GetFile(request):
            received += len(message.chunk.data)
        assert received == mib * MIB
        return received / 1e6 / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stream-mib", type=int, default=1024)
    parser.add_argument("--serve-empty", action="store_true")
    flags = parser.parse_args()
    if flags.serve_empty:
        asyncio.run(serve_empty())
        return
    with tempfile.TemporaryDirectory() as folder:
        empty = Server([sys.executable, __file__, "--serve-empty"])
        des = Server(
            [
                *(sys.executable, "-m", "des_server", "--data-dir", folder),
                *("--listen", "127.0.0.1:0", "--http-listen", ""),
            ]
        )
        try:
            rows = asyncio.run(measure_calls(empty, des, flags.seconds, flags.rounds))
            print(f"{FILE_BYTES // KIB} KiB, {IN_FLIGHT} in flight, median of {flags.rounds} rounds")
            for kind, row in rows.items():
                base = rows["empty put" if "ut" in kind.split(",")[0] else "empty get"]
                rate, cpu = statistics.median(row.calls_s), statistics.median(row.server_us)
                share = rate / statistics.median(base.calls_s)
                print(f"  {kind:18} {rate:7.0f}/s {share:5.0%} of empty   server {cpu:4.0f} us/call")
            before = des.rss_peak_mib()
            for server, kind in ((empty, "empty"), (des, "DES")) if flags.stream_mib else ():
                rate_in = asyncio.run(stream_in(server, flags.stream_mib))
                rate_out = asyncio.run(stream_out(server, stream_in.name, flags.stream_mib))
                print(
                    f"  {kind:6} stream of {flags.stream_mib} MiB: in {rate_in:.0f} MB/s, "
                    f"out {rate_out:.0f} MB/s, peak RSS {server.rss_peak_mib():.0f} MiB"
                )
            print(f"  (DES peak RSS before the streams: {before:.0f} MiB)")
        finally:
            des.stop()
            empty.stop()


if __name__ == "__main__":
    main()
