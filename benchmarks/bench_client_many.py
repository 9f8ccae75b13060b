# ruff: noqa: N802, ARG002  the names and arguments are gRPC's
"""What put_many and get_many of the client cost per file, and their memory for a million files.

    python benchmarks/bench_client_many.py [--files N] [--memory-files N] [--server | --target HOST:PORT]

With --server, a DES server is started, written to with LOCAL durability, and read from open and from sealed
files. Without it and --target, the server is a process that only acknowledges writes and repeats one prepared
answer to reads: the figures are the client's and gRPC's own. CPU is user and system time of the client's
process.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import google_crc32c
from des_client import AsyncDesClient, DesClient
from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
    types_pb2,
)
from grpc import aio

NAME = "DES_20260115_(000000000000_00)"
SIZE = 4096
ROUNDS = 3


class Echo(file_service_pb2_grpc.FileServiceServicer, system_service_pb2_grpc.SystemServiceServicer):
    def __init__(self, content):
        self._chunk = types_pb2.DataChunk(data=content, crc32c=google_crc32c.value(content))

    async def GetServerInfo(self, request, context):
        return system_service_pb2.GetServerInfoResponse(
            features=["batch"],
            limits=types_pb2.Limits(
                max_message_bytes=4 << 20, max_chunk_bytes=2 << 20, max_batch_message_bytes=2 << 20
            ),
        )

    async def BatchWriteFiles(self, request_iterator, context):
        async for request in request_iterator:
            response = file_service_pb2.BatchWriteFilesResponse()
            for item in request.items:
                result = response.results.add()
                result.index = item.index
                file = result.file
                file.name, file.size_bytes, file.state = NAME, item.spec.size_bytes, 1
                file.checksums.crc32c = item.checksums.crc32c
                file.create_time.seconds = 1_768_478_400
                result.durability = 1
            yield response

    async def BatchReadFiles(self, request, context):
        response = file_service_pb2.BatchReadFilesResponse()
        for index in range(len(request.items)):
            part = response.parts.add()
            part.index, part.last = index, True
            part.chunk.CopyFrom(self._chunk)
            if len(response.parts) == 250:
                yield response
                response = file_service_pb2.BatchReadFilesResponse()
        if response.parts:
            yield response


def serve(port):
    async def main():
        server = aio.server()
        echo = Echo(bytes(SIZE))
        file_service_pb2_grpc.add_FileServiceServicer_to_server(echo, server)
        system_service_pb2_grpc.add_SystemServiceServicer_to_server(echo, server)
        port.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(main())


def rss():
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(what, files, work):
    started, used = time.perf_counter(), cpu()
    count = work()
    seconds, used = time.perf_counter() - started, cpu() - used
    assert count == files, (count, files)
    row = {
        "what": what,
        "files": files,
        "files_per_s": round(files / seconds),
        "client_cpu_us_per_file": round(used / files * 1e6, 1),
    }
    print(json.dumps(row), flush=True)


def sync_rows(target, files, content):
    names = []
    with DesClient(target) as des:

        def put():
            names.extend(one.unwrap().file.name for one in des.put_many(content for _ in range(files)))
            return len(names)

        measured("put_many 4 KiB, blocking", files, put)
        measured(
            "get_many 4 KiB, blocking",
            files,
            lambda: sum(len(one.unwrap()) == SIZE for one in des.get_many(names)),
        )
        measured(
            "get_many 4 KiB, blocking, unordered",
            files,
            lambda: sum(len(one.unwrap()) == SIZE for one in des.get_many(names, ordered=False)),
        )
        unary = min(files, 2_000)
        measured(
            "put 4 KiB, blocking, one by one",
            unary,
            lambda: sum(bool(des.put(content)) for _ in range(unary)),
        )
        measured(
            "get 4 KiB, blocking, one by one", unary, lambda: sum(bool(des.get(one)) for one in names[:unary])
        )
    return names


async def aio_rows(target, files, content, names):
    async with AsyncDesClient(target) as des:

        async def put():
            return sum([one.error is None async for one in des.put_many(content for _ in range(files))])

        async def get():
            return sum([len(one.unwrap()) == SIZE async for one in des.get_many(names)])

        for what, work in (("put_many 4 KiB, asyncio", put), ("get_many 4 KiB, asyncio", get)):
            started, used = time.perf_counter(), cpu()
            assert await work() == files
            seconds, used = time.perf_counter() - started, cpu() - used
            print(
                json.dumps(
                    {
                        "what": what,
                        "files": files,
                        "files_per_s": round(files / seconds),
                        "client_cpu_us_per_file": round(used / files * 1e6, 1),
                    }
                ),
                flush=True,
            )


def memory(target, files):
    with DesClient(target) as des:
        for _ in des.put_many(b"warm" for _ in range(5_000)):
            pass
        before = rss()
        started = time.perf_counter()
        count = sum(one.error is None for one in des.put_many(b"%16d" % number for number in range(files)))
        assert count == files
        print(
            json.dumps(
                {
                    "what": "put_many of 16 byte files, memory",
                    "files": files,
                    "files_per_s": round(files / (time.perf_counter() - started)),
                    "rss_grown_mib": round((rss() - before) / 2**20, 1),
                    "peak_above_start_mib": round((peak() - before) / 2**20, 1),
                }
            ),
            flush=True,
        )


def real_rows(files, content):
    """Write and read with both clients, each in turn, against a server that keeps what it acknowledges."""
    sys.path.insert(0, str(Path(__file__).parent))
    from bench_grpc import SHARD_BITS, Server  # noqa: PLC0415  it measures for itself when it is run

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "des_server", "--data-dir", folder]
        server = Server([*command, "--listen", "127.0.0.1:0", "--http-listen", ""])
        try:
            with DesClient(server.address) as des:
                names = []

                def put():
                    names[:] = [one.unwrap().file.name for one in des.put_many(content for _ in range(files))]
                    return len(names)

                def get(**how):
                    return sum(len(one.unwrap()) == SIZE for one in des.get_many(names, **how))

                for _ in range(ROUNDS):
                    measured("put_many 4 KiB, blocking", files, put)
                for _ in range(ROUNDS):
                    measured("get_many 4 KiB, open, blocking", files, get)
                for shard in range(1 << SHARD_BITS):
                    des.seal_shard(shard)
                for _ in range(ROUNDS):
                    measured("get_many 4 KiB, sealed, blocking", files, get)
                    measured("get_many 4 KiB, sealed, blocking, unordered", files, lambda: get(ordered=False))
            for _ in range(ROUNDS):
                asyncio.run(aio_rows(server.address, files, content, names))
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--memory-files", type=int, default=1_000_000)
    parser.add_argument("--target")
    parser.add_argument("--server", action="store_true")
    args = parser.parse_args()
    if args.server:
        real_rows(args.files, os.urandom(SIZE))
        return
    server = None
    target = args.target
    if target is None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        server = context.Process(target=serve, args=(theirs,), daemon=True)
        server.start()
        target = f"127.0.0.1:{ours.recv()}"
    content = os.urandom(SIZE)
    try:
        if args.memory_files:
            memory(target, args.memory_files)
        if args.files:
            if server is None:
                names = sync_rows(target, args.files, content)
            else:
                # The echo serves no unary calls.
                names = [NAME] * args.files
                with DesClient(target) as des:
                    measured(
                        "put_many 4 KiB, blocking",
                        args.files,
                        lambda: sum(one.error is None for one in des.put_many(content for _ in names)),
                    )
                    measured(
                        "get_many 4 KiB, blocking",
                        args.files,
                        lambda: sum(len(one.unwrap()) == SIZE for one in des.get_many(names)),
                    )
            asyncio.run(aio_rows(target, args.files, content, names))
    finally:
        if server is not None:
            server.terminate()


if __name__ == "__main__":
    main()
