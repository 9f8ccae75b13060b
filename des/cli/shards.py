"""`des shards`: what each shard holds, once or again and again."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from des_client import DesClient, ShardInfo, ShardState
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from des.cli import options, text
from des.cli.connection import connected
from des.cli.report import print_json

app = typer.Typer(add_completion=False, rich_markup_mode=None)

STYLES: Final = {
    ShardState.ACTIVE: "green",
    ShardState.SEALING: "yellow",
    ShardState.RECOVERING: "yellow",
    ShardState.READ_ONLY: "magenta",
    ShardState.UNOWNED: "red",
}
WATCH_S: Final = 2.0
"""Between two looks where the server does not tell of changes."""
CHANGES_S: Final = 0.5
"""Least time between two changes shown."""
PIPE_WIDTH: Final = 200
"""Columns of a table that goes to a file or a pipe: nothing is cut off there."""


class _WatchSeconds(TyperCommand):
    """Lets `--watch 5` mean `--watch --every 5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split the optional value off `--watch`."""
        given: list[str] = []
        for one in args:
            if one.startswith("--watch="):
                given += ["--watch", "--every", one.removeprefix("--watch=")]
            elif given and given[-1] in {"--watch", "-w"} and _is_number(one):
                given += ["--every", one]
            else:
                given.append(one)
        return super().parse_args(ctx, given)


def _is_number(given: str) -> bool:
    return given.replace(".", "", 1).isdigit()


@app.command(cls=_WatchSeconds)
def shards(
    wanted: Annotated[list[int] | None, typer.Argument(metavar="[SHARD...]", help="Only these.")] = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show every change, or `--watch SECONDS`: look again.")
    ] = False,
    every: Annotated[float | None, typer.Option("--every", min=0.1, hidden=True)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Empty shards too.")] = False,
    timeout_s: options.Timeout = options.DEFAULT_TIMEOUT_S,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Show what each shard holds: open files in the ingest log, stored files in containers.

    Empty shards are left out, unless named or with --all. With --json one object per shard and look; with
    --watch alone one for each shard that has changed, when it has.
    """
    with connected(address, timeout_s=timeout_s) as client:
        keep_empty = everything or bool(wanted)
        if watch and every is None and "watch" in client.server_info().features:
            _follow(client, wanted, keep_empty=keep_empty, as_json=as_json)
            return
        every = WATCH_S if every is None else every
        look = _looker(client, wanted, keep_empty=keep_empty)
        if as_json:
            _repeat(lambda: _print_records(look()), every if watch else None)
        elif not sys.stdout.isatty():
            console = Console(width=PIPE_WIDTH)
            _repeat(lambda: console.print(picture(look())), every if watch else None)
        elif watch:
            with Live(picture(look()), auto_refresh=False) as live:
                _repeat(lambda: live.update(picture(look()), refresh=True), every)
        else:
            Console().print(picture(look()))


def _follow(client: DesClient, wanted: list[int] | None, *, keep_empty: bool, as_json: bool) -> None:
    """Show what the server tells of, until interrupted."""
    known: dict[int, ShardInfo] = {}

    def changed() -> Iterator[tuple[ShardInfo, ...]]:
        for update in client.watch_shards(wanted or (), min_interval=timedelta(seconds=CHANGES_S)):
            known.update((one.shard_id, one) for one in update.shards)
            yield update.shards

    def all_known() -> Group:
        return picture([one for _, one in sorted(known.items()) if keep_empty or holds_something(one)])

    if as_json:
        for shards in changed():
            _print_records(one for one in shards if keep_empty or holds_something(one))
    elif sys.stdout.isatty():
        with Live(all_known(), auto_refresh=False) as live:
            for _ in changed():
                live.update(all_known(), refresh=True)
    else:
        console = Console(width=PIPE_WIDTH)
        for _ in changed():
            console.print(all_known())


def _looker(
    client: DesClient, wanted: list[int] | None, *, keep_empty: bool
) -> Callable[[], list[ShardInfo]]:
    def look() -> list[ShardInfo]:
        found = client.shard_status(wanted or None)
        return [one for one in found if keep_empty or holds_something(one)]

    return look


def _repeat(show: Callable[[], None], every_s: float | None) -> None:
    """Show once, or until interrupted."""
    show()
    while every_s is not None:
        time.sleep(every_s)
        show()


def _print_records(found: Iterable[ShardInfo]) -> None:
    for one in found:
        print_json(record(one))


def holds_something(shard: ShardInfo) -> bool:
    """Whether a shard is worth a row: it holds files, or something is wrong with it."""
    return bool(shard.open_files or shard.stored_files or shard.containers or shard.last_error)


def record(shard: ShardInfo) -> dict[str, Any]:
    """Return a shard as a JSON object."""
    return {
        "shard": shard.shard_id,
        "state": shard.state.value,
        "owner_node": shard.owner_node,
        "owner_address": shard.owner_address,
        "epoch": shard.epoch,
        "open_files": shard.open_files,
        "open_bytes": shard.open_bytes,
        "oldest_open_age_s": None if shard.oldest_open_age is None else shard.oldest_open_age.total_seconds(),
        "stored_files": shard.stored_files,
        "stored_bytes": shard.stored_bytes,
        "containers": shard.containers,
        "last_seal_time": text.iso(shard.last_seal_time),
        "last_heartbeat_time": text.iso(shard.last_heartbeat_time),
        "last_error": shard.last_error,
    }


def picture(found: list[ShardInfo]) -> Group:
    """Draw shards with a row of totals, in 80 columns; owners and errors only where they tell something."""
    owners = {one.owner_node for one in found}
    drawn = Table(
        box=box.SIMPLE_HEAD,
        show_footer=bool(found),
        pad_edge=False,
        padding=(0, 2, 0, 0),
        footer_style="bold",
    )
    oldest = max((one.oldest_open_age for one in found if one.oldest_open_age is not None), default=None)
    sealed = max((one.last_seal_time for one in found if one.last_seal_time is not None), default=None)
    for title, footer in (
        ("\nshard", f"{len(found):,}"),
        ("open\nfiles", f"{sum(one.open_files for one in found):,}"),
        ("open\nbytes", text.size(sum(one.open_bytes for one in found))),
        ("oldest\nopen", _age(oldest)),
        ("stored\nfiles", f"{sum(one.stored_files for one in found):,}"),
        ("stored\nbytes", text.size(sum(one.stored_bytes for one in found))),
        ("con-\ntainers", f"{sum(one.containers for one in found):,}"),
        ("since\nseal", _since(sealed)),
    ):
        drawn.add_column(title, footer, justify="right", no_wrap=True)
    drawn.add_column("\nstate", no_wrap=True)
    if len(owners) > 1:
        drawn.add_column("\nowner", no_wrap=True)
    for one in found:
        cells: list[str | Text] = [
            str(one.shard_id),
            f"{one.open_files:,}" if one.open_files else "-",
            text.size(one.open_bytes) if one.open_files else "-",
            _age(one.oldest_open_age),
            f"{one.stored_files:,}" if one.stored_files else "-",
            text.size(one.stored_bytes) if one.stored_files else "-",
            f"{one.containers:,}" if one.containers else "-",
            _since(one.last_seal_time),
            Text(one.state.value.replace("_", " "), style=STYLES.get(one.state, "")),
        ]
        if len(owners) > 1:
            cells.append(Text(one.owner_node or "-"))
        drawn.add_row(*cells)
    notes = [
        Text(f"shard {one.shard_id}: {text.escape(one.last_error)}", "red") for one in found if one.last_error
    ]
    if not found:
        notes.append(Text("no shard holds a file; --all shows the empty ones"))
    return Group(drawn, *notes)


def _age(age: timedelta | None) -> str:
    return "-" if age is None else text.age(age.total_seconds())


def _since(moment: datetime | None) -> str:
    return "-" if moment is None else text.age(max(0.0, (datetime.now(UTC) - moment).total_seconds()))
