"""The command `des-marker`: gives eligible rows of source databases their names."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import uuid4

import typer
from des_server.http import HttpServer, make_app
from des_server.lifecycle import say
from des_server.listen import (
    Address,
    AddressInUseError,
    AddressInvalidError,
    AddressRefusedError,
    refuse_exposed,
)
from prometheus_client import CollectorRegistry

from des import __version__
from des.cli import settings
from des.cli.exits import Exit, Failure
from des.cli.report import print_json, print_line
from des.cli.source_databases import DEFAULT, SourcesFile, choose, read_sources
from des.cli.standalone import run_program
from des.clock import Clock, SystemClock
from des.config import Settings
from des.db import DesDbConnector, SqlCatalog
from des.errors import DesError
from des.ingest.directory import StoreDirectory
from des.marker import FileMarkerWorker, MarkerLease, NameMark
from des.monitoring import configure_logging
from des.monitoring.ingest_metrics import MarkerMetrics
from des.naming import SnowflakeNameGenerator
from des.node import NodeHealth
from des.sources import SourceConfig, SourceDatabaseConnector, SourcesConfig
from des.sources.rows import FailReason
from des.storage.posix_disk import PosixDisk

HTTP_LISTEN: Final = "127.0.0.1:7422"
PAGE: Final = 500
"""Dead letters handled in one transaction."""

app = typer.Typer(
    rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, no_args_is_help=True
)

Folder = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder of this marker alone: who it is, and how far names were given.",
        show_default=True,
    ),
]
NodeId = Annotated[
    int | None,
    typer.Option(
        "--node-id",
        min=0,
        max=255,
        help="Number in the names given; no other server, packer or marker of the store may have it.",
    ),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="[SOURCE]...", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per source.")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="What is logged.")]


@app.callback()
def marker() -> None:
    """Give eligible rows of source databases their DES names, each row once."""


@app.command()
def run(
    names: Names = None,
    *,
    path: SourcesFile = DEFAULT,
    config: settings.Config = None,
    data_dir: Folder = Path("des-marker"),
    node_id: NodeId = None,
    http_listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of health and metrics; '' for none.")
    ] = HTTP_LISTEN,
    log_level: LogLevel = "info",
    allow_exposed: Annotated[
        bool,
        typer.Option("--insecure-allow-plaintext-non-loopback", help="Listen beyond this machine."),
    ] = False,
) -> None:
    """Mark rows until SIGTERM or Ctrl-C; batches under way are finished."""
    sources = read_sources(path)
    job = _Job(
        choose(sources, names or []), sources, settings.load(config, settings.flags(None)), data_dir, node_id
    )
    configure_logging(level=log_level, style=job.store.log_format)
    _outcome(_run(job, http_listen, allow_exposed=allow_exposed))


@app.command()
def once(
    names: Names = None,
    *,
    path: SourcesFile = DEFAULT,
    config: settings.Config = None,
    data_dir: Folder = Path("des-marker"),
    node_id: NodeId = None,
    log_level: LogLevel = "warning",
) -> None:
    """Mark what is eligible now, then end."""
    sources = read_sources(path)
    job = _Job(
        choose(sources, names or []), sources, settings.load(config, settings.flags(None)), data_dir, node_id
    )
    configure_logging(level=log_level, style=job.store.log_format)
    _outcome(_once(job))


@app.command()
def status(names: Names = None, *, path: SourcesFile = DEFAULT, as_json: AsJson = False) -> None:
    """Count the rows of every source by where they are in their life."""
    _outcome(_status(choose(read_sources(path), names or []), as_json=as_json))


@app.command("list-dead")
def list_dead(
    names: Names = None,
    *,
    path: SourcesFile = DEFAULT,
    limit: Annotated[int, typer.Option(min=1, help="Rows per source, at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show rows that are failed, with their reasons."""
    _outcome(_list_dead(choose(read_sources(path), names or []), limit=limit, as_json=as_json))


@app.command("retry-dead")
def retry_dead(
    names: Names = None,
    *,
    path: SourcesFile = DEFAULT,
    reasons: Annotated[
        list[FailReason] | None,
        typer.Option("--reason", help="Only rows with this reason; may be repeated.", case_sensitive=False),
    ] = None,
) -> None:
    """Return failed rows to life: with their names, or for new ones where theirs stand for other bytes."""
    chosen = choose(read_sources(path), names or [])
    _outcome(_retry_dead(chosen, [reason.value for reason in reasons or []]))


@dataclass(frozen=True, slots=True)
class _Job:
    chosen: dict[str, SourceConfig]
    sources: SourcesConfig
    store: Settings
    """Settings of the store that the names are for."""
    data_dir: Path
    node_id: int | None


def _job(
    path: Path, names: list[str] | None, config: Path | None, data_dir: Path, node_id: int | None
) -> _Job:
    sources = read_sources(path)
    store = settings.load(config, settings.flags(None))
    return _Job(choose(sources, names or []), sources, store, data_dir, node_id)


def _outcome(work: Coroutine[object, object, None]) -> None:
    try:
        asyncio.run(work)
    except (AddressInvalidError, AddressRefusedError) as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    except AddressInUseError as error:
        raise Failure(str(error), code=Exit.FAILED) from None
    except DesError as error:
        code = Exit.UNAVAILABLE if error.retryable else Exit.FAILED
        raise Failure(str(error), code=code) from None


@dataclass(frozen=True, slots=True)
class _Names:
    """Where this marker's names come from."""

    generator: SnowflakeNameGenerator
    keep: Callable[[], Coroutine[object, object, None]] | None
    """Keeps the node id, until cancelled; None where nobody else gives it away."""


@asynccontextmanager
async def _names(job: _Job, clock: Clock) -> AsyncIterator[_Names]:
    """Open the marker's folder and get a node id: leased in a cluster, the operator's elsewhere."""
    job.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = StoreDirectory.open(PosixDisk(job.data_dir))
    try:
        if job.store.in_cluster and job.node_id is None:
            async with _leased_names(job, directory, clock) as leased:
                yield leased
            return
        if job.node_id is None:
            raise Failure(
                "no --node-id: names need a number from 0 to 255 that no other server, packer or marker of "
                f"the store has (its server has {job.store.node_id}); only nodes of a cluster lease theirs",
                code=Exit.USAGE,
            )
        mark = NameMark(job.data_dir)
        generator = _generator(job.store, clock, job.node_id, mark.read(), mark.reserve)
        yield _Names(generator, None)
        await mark.reserve(await generator.close())
    finally:
        directory.close()


@asynccontextmanager
async def _leased_names(job: _Job, directory: StoreDirectory, clock: Clock) -> AsyncIterator[_Names]:
    catalog = SqlCatalog(DesDbConnector(job.store.catalog_url))
    try:
        await catalog.migrate()
        lease = MarkerLease(
            catalog,
            node=str(directory.node_uuid),
            holder=str(uuid4()),
            boot_epoch=directory.boot_epoch,
            version=__version__,
            ttl_s=job.store.cluster.ttl_s,
            clock=clock,
        )
        given = await lease.register(window_ms=1 << job.store.wrap_bits)
        generator = _generator(job.store, clock, given.node_id, given.floor_ms, lease.reserve)
        yield _Names(generator, lease.run)
        await lease.leave(await generator.close())
    finally:
        await catalog.close()


def _generator(
    store: Settings, clock: Clock, node_id: int, floor_ms: int, reserve: Callable[[int], Awaitable[None]]
) -> SnowflakeNameGenerator:
    return SnowflakeNameGenerator(
        node_id=node_id,
        clock=clock,
        prefix=store.name_prefix,
        wrap_bits=store.wrap_bits,
        floor_ms=floor_ms,
        reserve=reserve,
    )


@asynccontextmanager
async def _worker(job: _Job, registry: CollectorRegistry) -> AsyncIterator[tuple[FileMarkerWorker, _Names]]:
    clock = SystemClock()
    async with _names(job, clock) as names:
        connectors = {
            name: SourceDatabaseConnector(name, source, clock=clock) for name, source in job.chosen.items()
        }
        try:
            worker = FileMarkerWorker(
                connectors,
                generator=names.generator,
                shard_bits=job.store.shard_bits,
                config=job.sources.marker,
                clock=clock,
                metrics=MarkerMetrics(registry),
            )
            yield worker, names
        finally:
            for connector in connectors.values():
                await connector.close()


async def _run(job: _Job, http_listen: str, *, allow_exposed: bool) -> None:
    registry = CollectorRegistry()
    async with _worker(job, registry) as (worker, names):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        http = _listen(http_listen, registry, worker, allow_exposed=allow_exposed)
        where = "no port" if http is None else f"port {http.port}"
        say(f"marking {', '.join(worker.sources)}, HTTP on {where}, data in {job.data_dir}")
        tasks = [asyncio.create_task(worker.run())]
        if names.keep is not None:
            tasks.append(asyncio.create_task(names.keep()))
        try:
            # The node id is kept until cancelled, or lost: then no further name may be given.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if http is not None:
                await http.stop()


def _listen(
    http_listen: str, registry: CollectorRegistry, worker: FileMarkerWorker, *, allow_exposed: bool
) -> HttpServer | None:
    if not http_listen:
        return None
    address = Address.parse(http_listen)
    if not allow_exposed:
        refuse_exposed([address], tls=False, auth=False)

    def ready() -> NodeHealth:
        errors = worker.errors()
        works = len(errors) < len(worker.sources)
        return NodeHealth(
            writable=works, readable=True, cause="; ".join(f"{name}: {text}" for name, text in errors.items())
        )

    http = HttpServer(make_app(registry, ready), address.bind())
    http.start()
    return http


async def _once(job: _Job) -> None:
    async with _worker(job, CollectorRegistry()) as (worker, _):
        marked = await worker.once()
        failed = sum(source.failed for source in worker.sources.values())
        print_line(f"{marked:,} rows marked, {failed:,} failed")


async def _status(chosen: dict[str, SourceConfig], *, as_json: bool) -> None:
    async for name, connector in _each(chosen):
        counts = asdict(await connector.counts())
        if as_json:
            print_json({"source": name, **counts})
        else:
            print_line(f"{name}: " + ", ".join(f"{count:,} {state}" for state, count in counts.items()))


async def _list_dead(chosen: dict[str, SourceConfig], *, limit: int, as_json: bool) -> None:
    async for name, connector in _each(chosen):
        for row in await connector.failed(limit=limit):
            if as_json:
                print_json({"source": name, **asdict(row), "id": str(row.id)})
            else:
                print_line(f"{name} {row.id}: {row.error} (attempts: {row.attempts})")


async def _retry_dead(chosen: dict[str, SourceConfig], reasons: list[str]) -> None:
    async for name, connector in _each(chosen):
        revived = 0
        after = None
        while rows := await connector.failed(limit=PAGE, after=after, reasons=reasons):
            revived += await connector.retry_failed(rows)
            after = rows[-1].id
        print_line(f"{name}: {revived:,} rows returned")


async def _each(chosen: dict[str, SourceConfig]) -> AsyncIterator[tuple[str, SourceDatabaseConnector]]:
    for name, source in chosen.items():
        connector = SourceDatabaseConnector(name, source)
        try:
            yield name, connector
        finally:
            await connector.close()


def main() -> None:
    """Run the command `des-marker`."""
    run_program(app, "des-marker")


if __name__ == "__main__":
    main()
