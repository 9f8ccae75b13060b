"""`des find`: list the files of a store, by day, shard or beginning of the name."""

from datetime import date, datetime
from typing import Annotated

import typer

from des.cli import options
from des.cli.connection import connected
from des.cli.report import print_json, print_line
from des.cli.stat import record

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _moment(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise typer.BadParameter(f"found {value!r}, expected ISO 8601, as 2026-01-15T12:00Z") from None
    # A time without a zone is the user's own.
    return moment if moment.tzinfo is not None else moment.astimezone()


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat() if value else ""
    except ValueError:
        raise typer.BadParameter(f"found {value!r}, expected a day as 2026-01-15") from None


@app.command()
def find(
    *,
    day: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="UTC day of the names.", callback=_day)] = "",
    shard: Annotated[list[int] | None, typer.Option(min=0, help="Only this shard; may be repeated.")] = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="How the names begin.")] = "",
    after: Annotated[str | None, typer.Option(metavar="TIME", help="Created at this time or later.")] = None,
    before: Annotated[str | None, typer.Option(metavar="TIME", help="Created before this time.")] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted files, too.")] = False,
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, state and type as well.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Stop after so many; 0: never.")] = 0,
    timeout_s: options.Timeout = options.DEFAULT_TIMEOUT_S,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """List the files of a store, one name per line, as the server finds them.

    Unlike `des ls`, which lists an archive in a local file, this asks a server. Files written meanwhile may
    or may not appear.
    """
    with connected(address, timeout_s=timeout_s) as client:
        files = client.list(
            day=day,
            shard_ids=shard or (),
            prefix=prefix,
            created_after=_moment(after),
            created_before=_moment(before),
            show_deleted=deleted,
            with_metadata=as_json,
        )
        if not (long or as_json or limit):
            for name in files.names():
                print_line(name)
            return
        for number, file in enumerate(files, 1):
            if as_json:
                print_json(record(file))
            elif long:
                print_line(
                    f"{file.name}  {file.size_bytes:>12,}  {file.state.lower():<7}  {file.content_type}"
                )
            else:
                print_line(file.name)
            if number == limit:
                return
