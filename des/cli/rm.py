"""`des rm`: delete files by name."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from des_client import DesClientError

from des.cli import options
from des.cli.connection import connected, failure
from des.cli.exits import Failure
from des.cli.report import Report, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)

STDIN = "-"


@app.command()
def rm(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of the files; - reads them from stdin.")
    ],
    *,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", "-f", help="A name that is unknown or deleted is no failure.")
    ] = False,
    timeout_s: options.Timeout = options.DEFAULT_TIMEOUT_S,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Delete files, for good: gone for every reader when this ends, and the names are never used again.

    No room is given back for a file in a container: this release rewrites none. A file that fails does not
    stop the rest.
    `des find --prefix INV_20260115 | des rm -` deletes what a listing found.
    """
    report = Report(as_json=as_json, lines=False)
    with connected(address, timeout_s=timeout_s) as client:
        for outcome in client.delete_many(given(names), allow_missing=missing_ok):
            if isinstance(outcome.error, DesClientError):
                report.failed({"name": outcome.name}, failure(outcome.error))
            else:
                report.done({"name": outcome.name}, outcome.name, size=0, explicit=False)
    if report.total_count != 1:
        say(f"deleted {report.done_count:,} files; {report.total_count - report.done_count:,} failed")
    report.end()


def given(names: list[str]) -> Iterator[str]:
    """Give the names of the command line, and one per line of stdin for `-`.

    Raises:
        Failure: a line is not UTF-8.
    """
    for name in names:
        if name != STDIN:
            yield name
            continue
        for line in sys.stdin.buffer:
            try:
                if found := line.decode().rstrip("\r\n"):
                    yield found
            except UnicodeDecodeError:
                raise Failure(f"stdin: {line!r} is no name") from None
