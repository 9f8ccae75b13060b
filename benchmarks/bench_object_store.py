"""The S3 backend beside what others do with the same server: requests, ranged reads, uploads.

    python benchmarks/bench_object_store.py [--parts requests,reads,upload] [--seconds 3] [--rounds 3]
        [--aws COMMAND] [--endpoint-url URL --bucket BUCKET]

The server is versitygw over a folder (scripts/s3_server.sh install), in a process of its own, or one that is
named. `requests`: what one GetFile costs, counted by a proxy. `reads`: ranged reads per second, and this
process's CPU per read, beside plain boto3 in as many threads, in turns. `upload`: sealing a container and
uploading it, beside `aws s3 cp` of the same container and the same store's own upload of it. `--aws` is AWS's
command line, of another environment if need be; without it boto3's `upload_file` stands for it, which
`aws s3 cp` is made of.

On a small machine the server is what limits `reads`. They are measured a second time against a server
that knows one object and answers at once.
"""

import argparse
import asyncio
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import google_crc32c
import structlog
from botocore.config import Config
from des_server import process_memory
from pydantic import SecretStr

from des.config import S3Settings, Settings, load_settings
from des.core import S3DesReader
from des.files import FileSpec
from des.node import Node
from des.storage import S3StorageBackend, open_store
from des.storage.bytes_body import BytesBody
from des.testing.fault_proxy import S3FaultProxy
from des.testing.s3_server import BUCKET, temporary_versitygw

MIB = 1 << 20
FILES = 20_000
FILE_BYTES = 4096
READ_BYTES = 4300
"""A file of 4 KiB in its frame."""
READ_SIZE = 64 * MIB
"""Of the object."""
READS_AT_ONCE = 32
READY_ETAG = '"00000000000000000000000000000000"'
RANGE = re.compile(rb"(?i)range: bytes=(\d+)-(\d+)")
UPLOAD_FILES = 16_000
UPLOAD_FILE_BYTES = 16 << 10


@contextmanager
def server(arguments: argparse.Namespace) -> Iterator[tuple[S3Settings, str]]:
    if arguments.endpoint_url:
        yield (
            S3Settings(
                endpoint_url=arguments.endpoint_url,
                access_key_id=SecretStr(os.environ["AWS_ACCESS_KEY_ID"]),
                secret_access_key=SecretStr(os.environ["AWS_SECRET_ACCESS_KEY"]),
            ),
            arguments.bucket,
        )
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, temporary_versitygw(Path(folder)) as s3:
        yield s3.model_copy(update={"part_bytes": 8 * MIB, "connections": 64}), BUCKET


def node_settings(folder: str, s3: S3Settings, bucket: str, name: str) -> Settings:
    return load_settings(
        data_dir=Path(folder) / name,
        object_store=f"s3://{bucket}/bench-{name}-{os.urandom(4).hex()}",
        s3=s3,
        shard_bits=0,
        compression="off",
        log={"reserve_free_bytes": 0},
        seal={"size_bytes": 4 << 30, "entries": 10_000_000},
    )


async def put_all(node: Node, count: int, size: int) -> list[str]:
    rng = random.Random(1)
    names: list[str] = []
    for _ in range(0, count, 500):
        data = [rng.randbytes(size) for _ in range(500)]
        made = await asyncio.gather(
            *(node.put_bytes(FileSpec(), one, google_crc32c.value(one)) for one in data)
        )
        names += [one.file.name for one in made]
    return names


# --- requests --------------------------------------------------------------------------------------


async def requests(s3: S3Settings, bucket: str, folder: str) -> None:
    """Print what one read costs, with ever more known beforehand."""
    keys = (s3.access_key_id.get_secret_value(), s3.secret_access_key.get_secret_value())
    async with S3FaultProxy(s3.endpoint_url, keys=keys) as proxy:
        settings = node_settings(
            folder, s3.model_copy(update={"endpoint_url": proxy.url}), bucket, "requests"
        )
        node = await Node.open(settings)
        names = await put_all(node, FILES, FILE_BYTES)
        await node.seal_shard(0)
        await node.close()
        store = open_store(settings.object_store, settings)
        [key] = [info.key async for info in store.list("") if info.key.endswith(".des")]

        async def bare(name: str) -> None:
            await S3DesReader(store, key).get_file(name)

        async def whole(name: str) -> None:
            await (await node.open_file(name)).read_whole()

        sizes: dict[str, list[list[int]]] = {}
        for name in random.Random(2).sample(names, 5):
            node = await Node.open(settings)  # which has no page yet
            for kind, call in (("nothing known", bare), ("geometry known", whole), ("page known", whole)):
                proxy.answered.clear()
                await call(name)
                sizes.setdefault(kind, []).append(
                    [size for _, at, size in proxy.answered if at.endswith(".des")]
                )
            await node.close()
        for kind, found in sizes.items():
            print(
                f"  {kind:15} {statistics.mean(map(len, found)):4.2f} requests, "
                f"{statistics.mean(map(sum, found)):8.0f} bytes a file of {FILE_BYTES}"
            )
        await store.close()


# --- reads -----------------------------------------------------------------------------------------


async def rate(seconds: float, call: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Return reads per second, and milliseconds of this process's CPU per read."""
    end = time.perf_counter() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(READS_AT_ONCE)))
    return done / (time.perf_counter() - begun), (time.process_time() - cpu) / done * 1e3


class Ready(asyncio.Protocol):
    """Answers every ranged GET at once, with zeros and `READY_ETAG`."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            start, stop = map(int, RANGE.search(head).groups())
            self.transport.write(
                b"HTTP/1.1 206 Partial Content\r\nETag: %b\r\nContent-Range: bytes %d-%d/%d\r\n"
                b"Last-Modified: Tue, 24 Nov 2026 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n"
                % (READY_ETAG.encode(), start, stop, READ_SIZE, stop + 1 - start)
                + bytes(stop + 1 - start)
            )


async def be_ready() -> None:
    server = await asyncio.get_running_loop().create_server(Ready, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def ready_server(s3: S3Settings) -> Iterator[S3Settings]:
    process = subprocess.Popen([sys.executable, __file__, "--be-ready"], stdout=subprocess.PIPE, text=True)
    port = int(process.stdout.readline())
    try:
        yield s3.model_copy(update={"endpoint_url": f"http://127.0.0.1:{port}"})
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def reads(s3: S3Settings, bucket: str, arguments: argparse.Namespace) -> None:
    """Print ranged reads of an object on the server, and of one on a server that answers at once."""
    store = S3StorageBackend(bucket, prefix=f"bench-reads-{os.urandom(4).hex()}", settings=s3)
    made = await store.create("object", BytesBody(os.urandom(READ_SIZE)), metadata={})
    await compare_reads(s3, bucket, store, made.etag, arguments)
    await store.close()
    with ready_server(s3) as there:
        print(" from a server that answers at once")
        store = S3StorageBackend(bucket, settings=there)
        await compare_reads(there, bucket, store, READY_ETAG, arguments)
        await store.close()


async def compare_reads(
    s3: S3Settings, bucket: str, store: S3StorageBackend, etag: str, arguments: argparse.Namespace
) -> None:
    """Print ranged reads per second and their CPU, of the backend and of boto3 in threads."""
    size = READ_SIZE
    rng = random.Random(3)
    threads = ThreadPoolExecutor(READS_AT_ONCE)
    client = plain_boto3(s3)

    async def ours() -> None:
        start = rng.randrange(size - READ_BYTES)
        await store.get_range("object", start, start + READ_BYTES, etag=etag)

    def get(start: int) -> None:
        answer = client.get_object(
            Bucket=bucket,
            Key=f"{store.prefix}object",
            Range=f"bytes={start}-{start + READ_BYTES - 1}",
            IfMatch=etag,
        )
        assert len(answer["Body"].read()) == READ_BYTES

    async def theirs() -> None:
        await asyncio.get_running_loop().run_in_executor(threads, get, rng.randrange(size - READ_BYTES))

    kinds = {"S3StorageBackend": ours, "boto3": theirs}
    rates: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number in range(arguments.rounds + 1):
        for kind, call in kinds.items():
            found = await rate(arguments.seconds if number else 0.5, call)
            if number:
                rates[kind].append(found)
    medians = {
        kind: (statistics.median(one for one, _ in found), statistics.median(cpu for _, cpu in found))
        for kind, found in rates.items()
    }
    for kind, (reads_s, cpu) in medians.items():
        print(f"  {kind:17} {reads_s:7.0f} reads/s of {READ_BYTES} bytes, {cpu:6.3f} ms CPU a read")
    (fast, cheap), (slow, dear) = medians["S3StorageBackend"], medians["boto3"]
    print(f"  {fast / slow:4.1f} times the reads, a {dear / cheap:.1f}th of the CPU")
    threads.shutdown()
    client.close()


def plain_boto3(s3: S3Settings) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=s3.access_key_id.get_secret_value(),
        aws_secret_access_key=s3.secret_access_key.get_secret_value(),
        config=Config(max_pool_connections=READS_AT_ONCE),
    )


# --- upload ----------------------------------------------------------------------------------------


async def upload(s3: S3Settings, bucket: str, folder: str, arguments: argparse.Namespace) -> None:
    """Print megabytes per second of a seal, and of uploads of the container that it made."""
    process_memory.settle()  # as a process that serves does
    rows: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        settings = node_settings(folder, s3, bucket, f"upload-{len(rows.get('seal and upload', []))}")
        node = await Node.open(settings)
        await put_all(node, UPLOAD_FILES, UPLOAD_FILE_BYTES)
        os.sync()  # what the puts left to write is not the seal's
        begun = time.perf_counter()
        await node.seal_shard(0)
        taken = time.perf_counter() - begun
        await node.close()
        store = open_store(settings.object_store, settings)
        [info] = [one async for one in store.list("") if one.key.endswith(".des")]
        path = Path(folder) / "container.des"
        with path.open("wb") as file:
            for start in range(0, info.size, 8 * MIB):
                file.write(await store.get_range(info.key, start, min(info.size, start + 8 * MIB)))
        rows.setdefault("seal and upload", []).append(info.size / 1e6 / taken)
        os.sync()
        begun = time.perf_counter()
        await store.create("copy", FileBody(path), metadata={})
        rows.setdefault("upload alone", []).append(info.size / 1e6 / (time.perf_counter() - begun))
        await store.close()
        for kind, taken_s in copied(path, s3, bucket, arguments.aws).items():
            rows.setdefault(kind, []).append(info.size / 1e6 / taken_s)
        shutil.rmtree(settings.data_dir)
    for kind, rates in rows.items():
        print(f"  {kind:32} {statistics.median(rates):6.0f} MB/s ({info.size / 1e6:.0f} MB)")


class FileBody:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self.descriptor, size, offset)


def copied(path: Path, s3: S3Settings, bucket: str, aws: str | None) -> dict[str, float]:
    """Return how long others take to upload a file, in seconds."""
    client = plain_boto3(s3)
    os.sync()
    begun = time.perf_counter()
    client.upload_file(str(path), bucket, f"bench-boto3-{os.urandom(4).hex()}")
    found = {"boto3 upload_file": time.perf_counter() - begun}
    client.close()
    if aws:
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": s3.access_key_id.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
            "AWS_REGION": "us-east-1",
        }

        def run(*command: str) -> float:
            os.sync()
            begun = time.perf_counter()
            subprocess.run(
                [aws, "--endpoint-url", s3.endpoint_url, *command],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            return time.perf_counter() - begun

        whole = run("s3", "cp", str(path), f"s3://{bucket}/bench-aws-{os.urandom(4).hex()}")
        found["aws s3 cp"] = whole
        small = path.with_suffix(".small")
        small.write_bytes(b"x")
        found["aws s3 cp, without its start"] = whole - run(
            "s3", "cp", str(small), f"s3://{bucket}/bench-aws-{os.urandom(4).hex()}"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default="requests,reads,upload")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--aws", default=shutil.which("aws"))
    parser.add_argument("--endpoint-url", default="")
    parser.add_argument("--bucket", default=BUCKET)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--be-ready", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be_ready:
        asyncio.run(be_ready())
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with server(arguments) as (s3, bucket), tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for part in arguments.parts.split(","):
            print(part, flush=True)
            if part == "requests":
                asyncio.run(requests(s3, bucket, folder))
            elif part == "reads":
                asyncio.run(reads(s3, bucket, arguments))
            else:
                asyncio.run(upload(s3, bucket, folder, arguments))


if __name__ == "__main__":
    main()
