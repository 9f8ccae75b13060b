"""`des assign`: names for files that come later."""

from typing import Annotated

import typer

from des.cli import options
from des.cli.connection import connected
from des.cli.report import print_json, print_line

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def assign(
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many names.")] = 1,
    prefix: Annotated[str, typer.Option(help="First part of the names; default: the server's.")] = "",
    timeout_s: options.Timeout = options.DEFAULT_TIMEOUT_S,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Reserve names, one per line, for `des put --name NAME`."""
    with connected(address, timeout_s=timeout_s) as client:
        most = client.server_info().limits.max_names_per_assign or count
        for start in range(0, count, most):
            for one in client.assign_names(min(most, count - start), prefix=prefix):
                if as_json:
                    print_json({"name": one.name, "shard": one.shard_id, "day": one.day})
                else:
                    print_line(one.name)
