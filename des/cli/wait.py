"""`des wait`: until files are in the object store."""

from typing import Annotated

import typer
from des_client import DesClientError

from des.cli import options
from des.cli.connection import connected, failure
from des.cli.report import Report
from des.cli.rm import given

app = typer.Typer(add_completion=False, rich_markup_mode=None)

WAIT_S = 600.0


@app.command()
def wait(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of the files; - reads them from stdin.")
    ],
    *,
    timeout_s: options.Timeout = WAIT_S,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Wait until files are in the object store and recorded, so that they survive the loss of their node.

    Exit code 7 when that takes longer than --timeout; the files are no less durable for it.
    """
    report = Report(as_json=as_json, lines=False)
    with connected(address, timeout_s=timeout_s) as client:
        for outcome in client.wait_stored(given(names)):
            if isinstance(outcome.error, DesClientError):
                report.failed({"name": outcome.name}, failure(outcome.error))
            else:
                report.done({"name": outcome.name}, outcome.name, size=0, explicit=False)
    report.end()
