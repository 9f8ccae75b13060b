"""Listing names: how fast, and what the first page of a cold store asks of the object store.

    python benchmarks/bench_list.py [--names 1000000] [--seals 1] [--shard-bits 0] [--view name]

Files of 16 bytes are put and sealed, the server is started anew, and one client lists everything in pages
of 1,000. The requests are those of the trailers.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import google_crc32c
import grpc
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import ListFilesRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

from des.config import Settings
from des.files import FileSpec
from des.node import Node
from des.node.put_many import WholeFile

sys.path.insert(0, str(Path(__file__).parent))
from bench_grpc import Server

PER_PUT = 4000


async def fill(folder: str, names: int, shard_bits: int, *, seals: int) -> int:
    """Put so many files, and seal them so many times; return the number of containers."""
    settings = Settings(
        data_dir=Path(folder), shard_bits=shard_bits, compression="off", log={"reclaim_delay_s": 0}
    )
    node = await Node.open(settings)
    data = os.urandom(16)
    item = WholeFile(FileSpec(), data, google_crc32c.value(data))
    containers = 0
    for part in range(max(1, seals)):
        count = names * (part + 1) // max(1, seals) - names * part // max(1, seals)
        for start in range(0, count, PER_PUT):
            await node.put_many([item] * min(PER_PUT, count - start))
        for shard in range(1 << shard_bits if seals else 0):
            containers += len(await node.seal_shard(shard))
    await node.close()
    return containers


async def page(stub: FileServiceStub, token: str, view: int) -> tuple[int, str, int]:
    call = stub.ListFiles(ListFilesRequest(page_size=1000, page_token=token, view=view))
    answer = await call
    trailers = dict(await call.trailing_metadata())
    return len(answer.files), answer.next_page_token, int(trailers["des-object-store-requests"])


async def measure(server: Server, view: int, limit: int) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = FileServiceStub(channel)
        begun = time.perf_counter()
        count, token, requests = await page(stub, "", view)
        first_s = time.perf_counter() - begun
        print(f"  first page of {count}, cold: {requests} requests, {first_s * 1000:.0f} ms")
        listed = count
        begun = time.perf_counter()
        cpu = server.cpu_s()
        while token and listed < limit:
            count, token, more = await page(stub, token, view)
            listed += count
            requests += more
        took = time.perf_counter() - begun
        print(
            f"  {listed} names: {(listed - 1000) / took:.0f} names/s, server "
            f"{(server.cpu_s() - cpu) / listed * 1e6:.1f} us/name, {requests} requests in all"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--seals", type=int, default=1, help="seal the files in so many parts")
    parser.add_argument("--shard-bits", type=int, default=0)
    parser.add_argument("--view", choices=["name", "basic"], default="name")
    parser.add_argument("--open", action="store_true", help="leave the files in the log")
    parser.add_argument("--limit", type=int, default=1 << 60, help="stop after so many names")
    flags = parser.parse_args()
    view = types_pb2.FILE_VIEW_NAME if flags.view == "name" else types_pb2.FILE_VIEW_BASIC
    with tempfile.TemporaryDirectory() as folder:
        containers = asyncio.run(
            fill(folder, flags.names, flags.shard_bits, seals=0 if flags.open else flags.seals)
        )
        print(f"{flags.names} files in {containers} containers, view {flags.view}")
        server = Server(
            [
                *(sys.executable, "-m", "des_server", "--data-dir", folder),
                *("--listen", "127.0.0.1:0", "--http-listen", ""),
            ],
            shard_bits=flags.shard_bits,
        )
        try:
            asyncio.run(measure(server, view, flags.limit))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
