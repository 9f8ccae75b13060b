"""A bucket, a table, and a node that packs the table's rows, for tests."""

from collections import Counter

from prometheus_client import CollectorRegistry

from des.clock import SystemClock
from des.config import load_settings
from des.core import DesReader
from des.monitoring.ingest_metrics import IngestMetrics
from des.naming import SnowflakeNameGenerator
from des.node import Node
from des.node.source_ingest import SourceIngest
from des.sources import ClaimOwner, SourceDatabaseConnector
from des.sources.config import PackerConfig
from des.sources.provider import MultiSourceFileProvider, Source
from des.sources.s3_objects import S3SourceObjects

BITS = 2
HOLDERS = [f"{number}1111111-0000-4000-8000-000000000000" for number in range(9)]


class World:
    """A bucket, a table, and a node with its packer, which can be killed and started again."""

    def __init__(self, table, s3, data_dir):
        self.table = table
        self.client, self.endpoint = s3
        self.settings = load_settings(
            data_dir=data_dir, shard_bits=BITS, big_file_bytes=1 << 20, seal={"check_interval_s": 3600}
        )
        self.starts = 0
        self.generator = SnowflakeNameGenerator(node_id=9, clock=SystemClock(), reserve=None)

    def config(self, **changes):
        objects = {"endpoint": self.endpoint, "access_key": "AK", "secret_key": "SK", "addressing": "path"}
        return self.table.config(objects=objects | changes.pop("objects", {}), **changes)

    async def start(self, *, packer=None, **changes):
        """Open the node and put a packer beside it, as a new process would."""
        self.node = await Node.open(self.settings)
        self.connector = SourceDatabaseConnector("docs", self.config(**changes))
        self.registry = CollectorRegistry()
        config = PackerConfig(**packer or {})
        provider = MultiSourceFileProvider(
            {"docs": Source(self.connector, S3SourceObjects(self.connector.config.objects, connections=8))},
            config=config,
            owner=ClaimOwner(self.node.store_id, HOLDERS[self.starts]),
            shard_bits=BITS,
            clock=SystemClock(),
        )
        self.starts += 1
        self.ingest = SourceIngest(
            self.node, provider, config=config, clock=SystemClock(), metrics=IngestMetrics(self.registry)
        )
        return self

    async def stop(self):
        await self.ingest.close()
        await self.node.close()

    def objects(self, **contents):
        """Put objects, and a row for each, in order."""
        for number, (key, data) in enumerate(contents.items(), 1):
            self.client.put_object(Bucket="docs", Key=key, Body=data)
            self.table.add(1, first=number, object_key=key)

    async def mark(self, count=100):
        names = await self.generator.next_many(count, "DES")
        return await self.connector.mark_batch(names, shard_bits=BITS)

    async def seal(self):
        for shard in range(1 << BITS):
            await self.node.seal_shard(shard)
        await self.ingest.settle()

    def copies(self):
        """How often each name stands in a container."""
        names = Counter()
        for path in (self.settings.data_dir / "objects").rglob("*.des"):
            with DesReader(path) as reader:
                names.update(reader.list_files())
        return names

    def row(self, number):
        return self.table.rows("*", f"id = {number}")[0]

    def count(self, outcome):
        labels = {"source": "docs", "outcome": outcome}
        return int(self.registry.get_sample_value("des_ingest_rows_total", labels) or 0)
