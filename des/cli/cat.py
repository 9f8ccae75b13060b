"""`des cat`: a file's bytes on stdout."""

import sys
from typing import Annotated

import typer

from des.cli import options
from des.cli.connection import connected

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def cat(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of the files.")],
    *,
    offset: Annotated[
        int, typer.Option(metavar="N", help="First byte to write; negative counts from the end.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Bytes to write at most; default: all.")
    ] = None,
    timeout_s: options.Timeout = options.DEFAULT_TIMEOUT_S,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Write files to stdout, one after the other, byte for byte.

    A range is fetched as a range: `des cat NAME --offset -100` reads the last 100 bytes only.
    """
    with connected(address, timeout_s=timeout_s) as client:
        for name in names:
            if limit == 0:
                client.stat(name)
            else:
                client.get_to(name, sys.stdout.buffer, offset=offset, limit=limit)
            sys.stdout.buffer.flush()
