"""What ingest costs: claims on a large table, rows marked, files packed, memory of a long object.

python benchmarks/bench_ingest.py claims [--rows 10000000]
python benchmarks/bench_ingest.py marking [--rows 20000]
python benchmarks/bench_ingest.py packing [--rows 3000]
python benchmarks/bench_ingest.py long [--mib 2048]
"""

import argparse
import asyncio
import contextlib
import resource
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import boto3
from prometheus_client import CollectorRegistry

from des.clock import SystemClock
from des.config import load_settings
from des.marker import FileMarkerWorker
from des.monitoring.ingest_metrics import IngestMetrics, MarkerMetrics
from des.naming import SnowflakeNameGenerator
from des.node import Node
from des.node.source_ingest import SourceIngest
from des.sources import ClaimOwner, SourceDatabaseConnector
from des.sources.config import MarkerConfig, PackerConfig
from des.sources.provider import MultiSourceFileProvider, Source
from des.sources.s3_objects import S3SourceObjects
from des.testing.s3_server import ACCESS_KEY, SECRET_KEY, temporary_s3_process, versitygw
from des.testing.source_databases import SourceDatabase, temporary_source

BITS = 8
OWNER = ClaimOwner("0b4c1f6e-0000-4000-8000-000000000000", "11111111-0000-4000-8000-000000000000")
KEYS = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "addressing": "path"}
PACKING_BITS = 4
"""Few shards: looking each up in the catalog, once a day, is not to weigh more here than it does there."""
BATCH = 500
FETCHES = 32
FILE_BYTES = 10_240


async def claims(rows: int, folder: Path) -> None:
    """Claim batches of 500 from a table of many rows, nine tenths of them packed."""
    with temporary_source("postgresql", folder) as source:
        began = time.monotonic()
        source.execute(
            "DROP INDEX by_claim",
            "ALTER TABLE documents SET UNLOGGED",
            f"""INSERT INTO documents (bucket, object_key, size_bytes, mime, customer, kind, des_status,
                    des_name, des_hash, des_shard)
                SELECT 'docs', 'in/' || i || '.bin', 10240, 'application/octet-stream', 'c' || i % 97, 'a',
                    CASE WHEN i % 10 = 0 THEN 'marked' ELSE 'packed' END, name,
                    get_byte(sha256(name::bytea), 0)::bigint << 24, get_byte(sha256(name::bytea), 0)
                FROM (SELECT i, 'DES_20260228_(' || upper(lpad(to_hex(i), 12, '0')) || '_00)' AS name
                      FROM generate_series(1, {rows}) AS i) AS made""",
            "CREATE INDEX by_claim ON documents (des_status, des_shard, id)",
            "ANALYZE documents",
        )
        print(f"{rows:,} rows made in {time.monotonic() - began:.0f} s", flush=True)
        server = []
        with source.engine.begin() as connection:
            for shard in range(0, 1 << BITS, 8):
                plan = connection.exec_driver_sql(
                    "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM documents WHERE des_status = 'marked' "
                    f"AND des_shard = {shard} AND (des_claim_expires IS NULL OR des_claim_expires <= 5) "
                    f"ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED"
                ).scalar_one()
                server.append(plan[0]["Planning Time"] + plan[0]["Execution Time"])
            connection.rollback()
        print(f"claim query in the server, {BATCH} rows of one shard: {_spread(server)}", flush=True)
        connector = SourceDatabaseConnector("docs", source.config())
        await connector.open()
        whole = []
        for shard in range(0, 1 << BITS, 8):
            began = time.perf_counter()
            found = await connector.claim([shard], owner=OWNER, shard_bits=BITS, limit=BATCH)
            whole.append((time.perf_counter() - began) * 1000)
            assert len(found) == BATCH, len(found)
        print(f"whole claim, three statements and the commit: {_spread(whole)}")
        await connector.close()


def _spread(milliseconds: list[float]) -> str:
    return f"median {median(milliseconds):.1f} ms, max {max(milliseconds):.1f} ms of {len(milliseconds)}"


async def marking(rows: int, folder: Path) -> None:
    """Mark rows with one worker, on each database there is."""
    for kind in ("postgresql", "mariadb", "sqlite"):
        (folder / kind).mkdir()
        with temporary_source(kind, folder / kind) as source:
            source.add(rows)
            connector = SourceDatabaseConnector("docs", source.config())
            clock = SystemClock()
            worker = FileMarkerWorker(
                {"docs": connector},
                generator=SnowflakeNameGenerator(node_id=1, clock=clock, reserve=None),
                shard_bits=BITS,
                config=MarkerConfig(),
                clock=clock,
                metrics=MarkerMetrics(CollectorRegistry()),
            )
            began = time.monotonic()
            done = await worker.once()
            seconds = time.monotonic() - began
            print(f"{kind:12} {done:,} rows marked in {seconds:.1f} s: {done / seconds:,.0f}/s", flush=True)
            await connector.close()


async def packer(
    source: SourceDatabase, endpoint: str, folder: Path
) -> tuple[SourceIngest, Node, CollectorRegistry]:
    """A node with a packer beside it."""
    registry = CollectorRegistry()
    node = await Node.open(load_settings(data_dir=folder / "data", shard_bits=PACKING_BITS))
    config = source.config(objects={"endpoint": endpoint} | KEYS)
    clock = SystemClock()
    metrics = IngestMetrics(registry)
    provider = MultiSourceFileProvider(
        {
            "docs": Source(
                SourceDatabaseConnector("docs", config), S3SourceObjects(config.objects, connections=FETCHES)
            )
        },
        config=PackerConfig(),
        owner=OWNER,
        shard_bits=PACKING_BITS,
        clock=clock,
        on_fetch=lambda seconds: metrics.spent("fetch", seconds),
    )
    return SourceIngest(node, provider, config=PackerConfig(), clock=clock, metrics=metrics), node, registry


async def mark_all(source: SourceDatabase) -> None:
    """Mark every row."""
    connector = SourceDatabaseConnector("docs", source.config())
    generator = SnowflakeNameGenerator(node_id=1, clock=SystemClock(), reserve=None)
    while (await connector.mark_batch(await generator.next_many(1000), shard_bits=PACKING_BITS)).found:
        pass
    await connector.close()


async def fetch_alone(source: SourceDatabase, endpoint: str, rows: int) -> float:
    """Fetch the objects as a packer does, and do nothing with them; files per second."""
    config = source.config(objects={"endpoint": endpoint} | KEYS).objects
    objects = S3SourceObjects(config, connections=FETCHES)
    turn = asyncio.Semaphore(FETCHES)

    async def fetch(number: int) -> None:
        async with turn:
            found = await objects.open("docs", f"in/{number:06d}.bin", etag=None, size=None, size_max=1 << 30)
            assert len(found.first) == FILE_BYTES
            await found.close()

    began = time.monotonic()
    await asyncio.gather(*(fetch(number) for number in range(1, rows + 1)))
    seconds = time.monotonic() - began
    await objects.close()
    return rows / seconds


async def packing(rows: int, folder: Path) -> None:
    """Pack files of 10 KB with one packer, and say what part is fetching."""
    with temporary_source("sqlite", folder) as source, temporary_s3_process(folder) as s3:
        endpoint = s3.endpoint_url
        source.add(rows)
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        client.create_bucket(Bucket="docs")
        with ThreadPoolExecutor(8) as threads:
            list(
                threads.map(
                    lambda n: client.put_object(Bucket="docs", Key=f"in/{n:06d}.bin", Body=bytes(FILE_BYTES)),
                    range(1, rows + 1),
                )
            )
        await mark_all(source)
        alone = await fetch_alone(source, endpoint, rows)
        ingest, node, registry = await packer(source, endpoint, folder)
        rows -= (first := await ingest.step())
        began, cpu = time.monotonic(), time.process_time()
        labels = {"source": "docs", "outcome": "appended"}
        running = asyncio.create_task(ingest.run())
        while registry.get_sample_value("des_ingest_rows_total", labels) != first + rows:  # noqa: ASYNC110  no event
            await asyncio.sleep(0.01)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        spent = {
            step: registry.get_sample_value("des_ingest_seconds_total", {"step": step}) or 0.0
            for step in ("fetch", "append")
        }
        server = "versitygw" if versitygw() else "moto"
        print(
            f"{rows:,} files of 10 KB from {server} into the log in {seconds:.1f} s: "
            f"{rows / seconds:,.0f} files/s, "
            f"{cpu / rows * 1000:.2f} ms CPU of the packer each\n"
            f"of the time of a file {spent['fetch'] / sum(spent.values()):.0%} is fetching; fetched by "
            f"the same code and thrown away: {alone:,.0f} files/s"
        )
        ingest.stop()
        await running
        began = time.monotonic()
        for shard in range(1 << PACKING_BITS):
            await node.seal_shard(shard)
        await ingest.settle()
        seconds = time.monotonic() - began
        print(f"sealed and marked packed in {seconds:.1f} s: {(first + rows) / seconds:,.0f} files/s")
        print(source.statuses())
        await ingest.close()
        await node.close()


class _Zeros(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    size = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.size))
        self.send_header("ETag", '"zeros"')
        self.end_headers()
        block = bytes(1 << 20)
        # Whoever asks for the end first, and finds that all is sent, hangs up.
        with contextlib.suppress(OSError):
            for _ in range(self.size >> 20):
                self.wfile.write(block)

    def log_message(self, *_: object) -> None:
        pass


async def long(mib: int, folder: Path) -> None:
    """Pass one long object through a packer and say what memory it took."""
    _Zeros.size = mib << 20
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Zeros)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with temporary_source("sqlite", folder) as source:
        source.add(1)
        await mark_all(source)
        ingest, node, _ = await packer(source, f"http://127.0.0.1:{server.server_port}", folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        await ingest.step()
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"object of {mib:,} MiB in {seconds:.1f} s, {mib / seconds:,.0f} MiB/s; peak RSS "
            f"{after >> 10} MiB, {(after - before) >> 10} above before"
        )
        for shard in range(1 << PACKING_BITS):
            await node.seal_shard(shard)
        await ingest.settle()
        print(source.statuses())
        await ingest.close()
        await node.close()
    server.shutdown()


def main() -> None:
    """Run one measurement."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("what", choices=["claims", "marking", "packing", "long"])
    arguments.add_argument("--rows", type=int)
    arguments.add_argument("--mib", type=int, default=2048)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        match options.what:
            case "claims":
                asyncio.run(claims(options.rows or 10_000_000, folder))
            case "marking":
                asyncio.run(marking(options.rows or 20_000, folder))
            case "packing":
                asyncio.run(packing(options.rows or 3000, folder))
            case _:
                asyncio.run(long(options.mib, folder))


if __name__ == "__main__":
    main()
