"""The command `des-packer`: a node that packs the rows of source databases into the shards it holds.

It is a whole node: it serves gRPC, health and metrics as `des serve` does, so what it has packed can be
read from it at once, and takes the settings of one.
"""

from uuid import uuid4

import typer
from des_server.__main__ import run
from prometheus_client import CollectorRegistry

from des.cli import settings
from des.cli.source_databases import DEFAULT, SourcesFile, read_sources
from des.cli.standalone import run_program
from des.clock import SystemClock
from des.config import Settings
from des.monitoring.ingest_metrics import IngestMetrics
from des.node import Node
from des.node.source_ingest import SourceIngest
from des.sources import ClaimOwner, SourceDatabaseConnector, SourcesConfig, variables_in
from des.sources.provider import MultiSourceFileProvider, Source
from des.sources.s3_objects import S3SourceObjects

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def pack(
    *,
    path: SourcesFile = DEFAULT,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    listen: settings.Listen = None,
    http_listen: settings.HttpListen = None,
    log_level: settings.LogLevel = None,
    log_format: settings.LogFormat = None,
    sets: settings.Set = None,
    allow_exposed: settings.AllowExposed = False,
) -> None:
    """Pack rows of the source databases until SIGTERM or Ctrl-C: claim, fetch, append, seal, mark.

    Takes the options and settings of `des serve`, whose gRPC service it serves too.
    """
    sources = read_sources(path)
    given = settings.flags(
        sets,
        data_dir=data_dir,
        listen=listen,
        http_listen=http_listen,
        log_level=log_level,
        log_format=log_format,
    )
    loaded = settings.load(config, given)
    registry = CollectorRegistry()

    async def open_node(node_settings: Settings) -> Node:
        return await open_packer(node_settings, sources, IngestMetrics(registry))

    code = run(
        loaded,
        allow_exposed=allow_exposed,
        open_node=open_node,
        registry=registry,
        variables=variables_in(path),
    )
    if code:
        raise typer.Exit(code)


async def open_packer(loaded: Settings, sources: SourcesConfig, metrics: IngestMetrics) -> Node:
    """Open a node that packs the rows of `sources` until it is closed."""
    clock = SystemClock()
    node = await Node.open(loaded)
    try:
        provider = MultiSourceFileProvider(
            {
                name: Source(
                    SourceDatabaseConnector(name, source, clock=clock),
                    S3SourceObjects(source.objects, connections=sources.packer.fetches),
                )
                for name, source in sources.enabled.items()
            },
            config=sources.packer,
            owner=ClaimOwner(node.store_id, str(uuid4())),
            shard_bits=node.settings.shard_bits,
            clock=clock,
            on_answer=lambda name, answers: metrics.up(name, answers=answers),
            on_fetch=lambda seconds: metrics.spent("fetch", seconds),
        )
        node.run_beside(SourceIngest(node, provider, config=sources.packer, clock=clock, metrics=metrics))
    except BaseException:
        await node.close()
        raise
    return node


def main() -> None:
    """Run the command `des-packer`."""
    run_program(app, "des-packer")


if __name__ == "__main__":
    main()
