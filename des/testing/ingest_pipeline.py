"""A whole ingest pipeline as processes, for tests and the demonstration: sources, S3, markers, packers."""

import asyncio
import hashlib
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import boto3
import yaml
from botocore.config import Config
from sqlalchemy import URL, create_engine

from des.core import DesReader
from des.db import ContainerState, DesDbConnector, SqlCatalog
from des.testing.s3_server import ACCESS_KEY, SECRET_KEY, temporary_s3_process
from des.testing.source_databases import SourceDatabase, temporary_source

START_S: Final = 90
PUTS: Final = 8
"""Objects put at once."""
DOCUMENTS: Final = "docs"
STORE: Final = "des-store"
READY: Final = re.compile(r"des: serving gRPC on (?P<grpc>\S+), HTTP on (?P<http>\S+), data in")


@dataclass
class Worker:
    """One process of the pipeline, which can be killed and started again on its folder."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    serves: bool
    """Whether it says that it is ready: a packer does."""
    process: subprocess.Popen[str] | None = None
    address: str = ""

    def start(self) -> None:
        """Start it; `wait_ready` waits until it serves."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(  # noqa: S603
                self.command,
                stdout=subprocess.PIPE if self.serves else subprocess.DEVNULL,
                stderr=log,
                text=True,
                env=os.environ | self.environment,
            )

    def wait_ready(self) -> None:
        """Wait for the line that names the address of a packer."""
        if not self.serves:
            return
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_S)
        found = READY.match(self.process.stdout.readline() if ready else "")
        if found is None:
            raise RuntimeError(f"{self.name} did not start: {self.log.read_text()[-3000:]}")
        self.address = found["grpc"]

    def end(self, how: signal.Signals) -> int:
        """Send a signal and wait until the process is gone; its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(how)
        code = self.process.wait(START_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code


@dataclass
class Outcome:
    """What a run came to."""

    packed: int = 0
    failed: int = 0
    unfinished: int = 0
    kills: int = 0
    seconds: float = 0.0
    """From the first worker's start until the last row was packed."""
    containers: int = 0
    container_bytes: int = 0
    given_up: int = 0
    """Objects of seals that were begun by one who lost the shard before the commit."""
    doubled: list[str] = field(default_factory=list)
    """Names that stand in more than one stored container, or in two rows."""


class IngestPipeline:
    """Three source databases over one S3 server, markers and packers over one PostgreSQL catalog."""

    def __init__(self, folder: Path, *, kinds: Sequence[str], shard_bits: int = 4) -> None:
        """Use `folder` for everything; `kinds` are the source databases, at most one of each server."""
        self._folder = folder
        self._kinds = kinds
        self._bits = shard_bits
        self._stack = ExitStack()
        self.sources: dict[str, SourceDatabase] = {}
        self.workers: dict[str, Worker] = {}
        self.sums: dict[tuple[str, int], str] = {}
        """(source, row id) to the SHA-256 of what was put."""
        self.bytes = 0
        self._started = 0.0

    def __enter__(self) -> Self:
        try:
            self._start_servers()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.end(signal.SIGKILL)
        self._stack.close()

    # --- servers ----------------------------------------------------------------------------

    def _start_servers(self) -> None:
        self._start_s3()
        for place, kind in enumerate(self._kinds):
            name = f"{kind}-{place}"
            folder = self._folder / name
            folder.mkdir()
            source = self._stack.enter_context(temporary_source(kind, folder))
            self._stack.callback(source.engine.dispose)
            self.sources[name] = source
        catalog = next(source for source in self.sources.values() if source.kind == "postgresql").database
        self._catalog_url = _make_catalog(catalog)

    def _start_s3(self) -> None:
        folder = self._folder / "s3"
        folder.mkdir()
        self._s3 = self._stack.enter_context(temporary_s3_process(folder))
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self._s3.endpoint_url,
            region_name=self._s3.region,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(max_pool_connections=PUTS),
        )
        self._stack.callback(self.s3.close)
        for bucket in (DOCUMENTS, STORE):
            self.s3.create_bucket(Bucket=bucket)

    # --- content ----------------------------------------------------------------------------

    def fill(self, files: Iterator[tuple[str, bytes]]) -> int:
        """Put objects, spread over the sources as rows in turn; return how many."""
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in self.sources}
        with ThreadPoolExecutor(PUTS) as threads:
            for name, row, sha256, size in threads.map(self._put, enumerate(files)):
                row["id"] = len(rows[name]) + 1
                rows[name].append(row)
                self.sums[name, row["id"]] = sha256
                self.bytes += size
        for name, values in rows.items():
            self.sources[name].insert(values)
        return len(self.sums)

    def _put(self, numbered: tuple[int, tuple[str, bytes]]) -> tuple[str, dict[str, Any], str, int]:
        number, (path, data) = numbered
        name = list(self.sources)[number % len(self.sources)]
        key = f"{name}/{path}"
        etag = self.s3.put_object(Bucket=DOCUMENTS, Key=key, Body=data)["ETag"].strip('"')
        row = {
            "bucket": DOCUMENTS,
            "object_key": key,
            "mime": "application/octet-stream",
            "etag": etag if number % 2 else None,
            "size_bytes": len(data) if number % 3 else None,
            "customer": f"c{number % 97}",
        }
        return name, row, hashlib.sha256(data).hexdigest(), len(data)

    # --- workers ----------------------------------------------------------------------------

    def write_config(self, **packer: Any) -> Path:
        """Write the configuration that markers and packers read."""
        sources = {}
        for name, source in self.sources.items():
            config = source.config(
                objects={"endpoint": self._s3.endpoint_url, "addressing": "path"},
                claim={"timeout_s": 60, "batch_size": 250, "backoff_first_s": 1},
                name_prefix="IN",
            )
            plain = config.model_dump(mode="json", by_alias=True)
            plain["database"] = dict(source.database)
            plain["objects"] |= {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "session_token": ""}
            sources[name] = plain
        path = self._folder / "source_databases.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "marker": {"idle_s": 0.2, "backoff_max_s": 1},
                    "packer": {"idle_s": 0.2, "backoff_max_s": 1, **packer},
                    "sources": sources,
                }
            )
        )
        return path

    def add_markers(self, count: int, config: Path) -> None:
        """Prepare markers; they are not started."""
        for number in range(1, count + 1):
            self._add(
                f"marker-{number}",
                ["des.cli.marker", "run", "--sources", str(config), "--http-listen", ""],
                ["--data-dir", str(self._folder / f"marker-{number}"), "--log-level", "warning"],
                serves=False,
            )

    def add_packers(self, count: int, config: Path, **settings: str) -> None:
        """Prepare packers; they are not started. `settings` go over those of the test."""
        for number in range(1, count + 1):
            self._add(
                f"packer-{number}",
                ["des.cli.packer", "--sources", str(config), "--log-level", "warning"],
                ["--data-dir", str(self._folder / f"packer-{number}")],
                serves=True,
                settings=settings,
            )

    def _add(
        self,
        name: str,
        command: list[str],
        options: list[str],
        *,
        serves: bool,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.workers[name] = Worker(
            name,
            [sys.executable, "-m", *command, *options],
            self.environment | dict(settings or {}),
            self._folder / f"{name}.log",
            serves,
        )

    @property
    def environment(self) -> dict[str, str]:
        """Settings of every node of the store."""
        return {
            "DES_CATALOG_URL": self._catalog_url,
            "DES_OBJECT_STORE": f"s3://{STORE}",
            "DES_S3__ENDPOINT_URL": self._s3.endpoint_url,
            "DES_S3__ACCESS_KEY_ID": ACCESS_KEY,
            "DES_S3__SECRET_ACCESS_KEY": SECRET_KEY,
            "DES_S3__REGION": "us-east-1",
            "DES_SHARD_BITS": str(self._bits),
            "DES_LISTEN": "127.0.0.1:0",
            "DES_HTTP_LISTEN": "127.0.0.1:0",
            "DES_CLUSTER__ENABLED": "true",
            "DES_CLUSTER__TTL_S": "30",
            "DES_SEAL__AGE_S": "4",
            "DES_SEAL__CHECK_INTERVAL_S": "0.5",
            "DES_SEAL__RETRY_S": "0.5",
            "DES_DRAIN_S": "10",
        }

    def start(self) -> None:
        """Start every worker."""
        self._started = time.monotonic()
        for worker in self.workers.values():
            worker.start()
        for worker in self.workers.values():
            worker.wait_ready()

    def statuses(self) -> Counter[str]:
        """Count rows of all sources by status."""
        found: Counter[str] = Counter()
        for source in self.sources.values():
            found.update({status or "pending": count for status, count in source.statuses().items()})
        return found

    def run_until_packed(
        self,
        *,
        kills: int,
        seed: int,
        within_s: float,
        pause_s: tuple[float, float],
        told: Callable[[str], None] = lambda _line: None,
    ) -> Outcome:
        """Kill random workers while rows are packed, starting each again; return when no row is left.

        The first to go is a packer, as soon as a row is claimed.
        """
        rng = random.Random(seed)
        began = time.monotonic()
        outcome = Outcome()
        next_kill = 0.0
        victims = [worker for worker in self.workers.values() if worker.serves]
        total = len(self.sums)
        while time.monotonic() - began < within_s:
            found = self.statuses()
            if found["packed"] + found["failed"] == total:
                break
            if outcome.kills < kills and time.monotonic() >= next_kill and found["claimed"]:
                worker = rng.choice(victims)
                victims = list(self.workers.values())
                worker.end(signal.SIGKILL)
                outcome.kills += 1
                told(f"killed {worker.name}; {dict(found)}")
                worker.start()
                worker.wait_ready()
                next_kill = time.monotonic() + rng.uniform(*pause_s)
            time.sleep(0.2)
        outcome.seconds = time.monotonic() - self._started
        found = self.statuses()
        outcome.packed, outcome.failed = found["packed"], found["failed"]
        outcome.unfinished = total - outcome.packed - outcome.failed
        return outcome

    # --- proof ------------------------------------------------------------------------------

    def rows(self) -> dict[tuple[str, int], Any]:
        """Return every row, by source and id."""
        return {(name, row.id): row for name, source in self.sources.items() for row in source.rows()}

    def count_containers(self, outcome: Outcome) -> Counter[str]:
        """Read every stored container, and return how often each name stands in one.

        An object of the bucket that no stored container has is of a seal that was given up: nobody reads
        it, and garbage collection takes it.
        """
        stored = asyncio.run(self._stored())
        names: Counter[str] = Counter()
        path = self._folder / "container.des"
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=STORE):
            for found in page.get("Contents", []):
                if not found["Key"].endswith(".des"):
                    continue
                if found["Key"] not in stored:
                    outcome.given_up += 1
                    continue
                stored.remove(found["Key"])
                self.s3.download_file(STORE, found["Key"], str(path))
                with DesReader(path) as reader:
                    names.update(reader.list_files())
                outcome.containers += 1
                outcome.container_bytes += found["Size"]
        assert not stored, f"no objects of {stored}"
        rows = Counter(row.des_name for row in self.rows().values() if row.des_name)
        outcome.doubled = [
            name for name, count in (names + rows).items() if names[name] > 1 or rows[name] > 1
        ]
        return names

    async def _stored(self) -> set[str]:
        catalog = SqlCatalog(DesDbConnector(self._catalog_url))
        try:
            return {row.key for row in await catalog.containers(state=ContainerState.STORED)}
        finally:
            await catalog.close()


def _make_catalog(source: Mapping[str, Any]) -> str:
    """Make a database for the catalog on the server of a source, and return its URL."""
    parts = {
        "username": source["user"],
        "password": source["password"] or None,
        "port": source["port"],
    }
    query = {"host": source["host"]} if str(source["host"]).startswith("/") else {}
    host = None if query else source["host"]
    admin = create_engine(
        URL.create("postgresql+psycopg", host=host, database=source["name"], query=query, **parts),
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE des_catalog")
    admin.dispose()
    return URL.create("postgresql", host=host, database="des_catalog", query=query, **parts).render_as_string(
        hide_password=False
    )
