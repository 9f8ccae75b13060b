"""`des serve`: a server on this machine."""

from typing import Annotated

import typer
from des_server.__main__ import run

from des.cli import settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def serve(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    listen: settings.Listen = None,
    http_listen: settings.HttpListen = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes behind the gRPC address, each a node of its own; need PostgreSQL."),
    ] = None,
    log_level: settings.LogLevel = None,
    log_format: settings.LogFormat = None,
    sets: settings.Set = None,
    allow_exposed: settings.AllowExposed = False,
) -> None:
    """Run a store until SIGTERM or Ctrl-C: SQLite and a local folder, on loopback, unless set otherwise.

    `des config show` prints every setting and takes the same options.
    """
    given = settings.flags(
        sets,
        data_dir=data_dir,
        listen=listen,
        http_listen=http_listen,
        workers=workers,
        log_level=log_level,
        log_format=log_format,
    )
    if code := run(settings.load(config, given), allow_exposed=allow_exposed):
        raise typer.Exit(code)
