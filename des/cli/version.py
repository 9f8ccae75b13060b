"""`des version`: who we are, and who answers."""

from typing import Annotated

import typer

from des import __version__
from des.cli import options
from des.cli.connection import connected
from des.cli.exits import Failure
from des.cli.report import print_json, print_line

app = typer.Typer(add_completion=False, rich_markup_mode=None)

TIMEOUT_S = 5.0


@app.command()
def version(
    *,
    client_only: Annotated[bool, typer.Option("--client", help="Do not ask the server.")] = False,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Show the versions of this command and of the server; exit code 3 when no server answers."""
    found: dict[str, str | None] = {"des": __version__}
    absent: Failure | None = None
    if not client_only:
        found["address"] = address
        try:
            with connected(address, timeout_s=TIMEOUT_S, retry=False) as client:
                info = client.server_info()
            found |= {
                "server": info.server_version,
                "api": ", ".join(info.api_versions),
                "store": info.store_id,
            }
        except Failure as failure:
            absent = failure
            found["server"] = None
    if as_json:
        print_json(found)
    else:
        for key, value in found.items():
            print_line(f"{key:<8} {value or '-'}")
    if absent is not None:
        raise absent
