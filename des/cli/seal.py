"""`des seal`: open files into containers, now."""

from typing import Annotated

import typer
from des_client import DesClientError, Unavailable

from des.cli import options, text
from des.cli.connection import connected, failure
from des.cli.report import Report, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SEAL_TIMEOUT_S = 600.0
"""A seal uploads up to a whole container."""


@app.command()
def seal(
    shards: Annotated[list[int] | None, typer.Argument(metavar="[SHARD...]", help="Shard numbers.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every shard that holds open files.")] = False,
    timeout_s: options.Timeout = SEAL_TIMEOUT_S,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Seal what shards hold open, without waiting for size or age, and print the containers made."""
    if bool(shards) == every:
        raise typer.BadParameter("give shard numbers, or --all", param_hint="SHARD")
    report = Report(as_json=as_json)
    with connected(address, timeout_s=timeout_s) as client:
        wanted = shards or [one.shard_id for one in client.shard_status() if one.open_files]
        for shard_id in wanted:
            try:
                containers = client.seal_shard(shard_id).containers
            except Unavailable:
                raise
            except DesClientError as error:
                report.failed({"shard": str(shard_id)}, failure(error))
                continue
            for one in containers:
                report.done(
                    {
                        "container_id": one.container_id,
                        "key": one.key,
                        "day": one.day,
                        "shard": one.shard_id,
                        "shard_span": one.shard_span,
                        "files": one.file_count,
                        "size": one.size_bytes,
                    },
                    f"{one.key}  {text.files(one.file_count)}  {text.size(one.size_bytes)}",
                    size=one.size_bytes,
                )
    if not report.done_count and not report.failures:
        say("nothing is open: no container was made")
    report.end()
