"""`des shard-bits`: into how many shards the nodes of a cluster divide their store."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from des.cli import options, settings
from des.cli.exits import Exit, Failure
from des.cli.report import print_json, print_line
from des.cli.store_access import opened_store
from des.config import Settings
from des.db.membership import Sharding

app = typer.Typer(rich_markup_mode=None)


@app.command("shard-bits")
def command(
    bits: Annotated[
        int | None,
        typer.Argument(help="The store shall have 2**BITS shards.", show_default=False, min=0, max=16),
    ] = None,
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    sets: settings.Set = None,
    day: Annotated[
        str | None,
        typer.Option("--from", metavar="YYYYMMDD", help="UTC day; tomorrow by default.", show_default=False),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="At once, in the middle of a day.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Ask for no change any more.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show into how many shards the store is divided, or have the nodes divide it otherwise.

    The nodes carry the change out when the UTC day begins, by the database's clock, without being restarted:
    they seal what is open, let go of their shards, and take the new ones. Meanwhile writes wait, or are told
    to come back; stored files are read. Nothing that is stored moves. A store that one node has for itself
    follows the setting shard_bits at its next start.
    """
    if sum([day is not None, now, withdraw]) > 1 or (withdraw and bits is not None):
        raise Failure("--from, --now and --withdraw exclude each other", code=Exit.USAGE)
    if bits is None and (day is not None or now):
        raise Failure("--from and --now need BITS", code=Exit.USAGE)
    loaded = settings.load(config, settings.flags(sets, data_dir=data_dir))
    if (bits is not None or withdraw) and not loaded.in_cluster:
        raise Failure(
            "one node has this store for itself: change its setting shard_bits and start it again",
            code=Exit.USAGE,
        )
    found = asyncio.run(_settle(loaded, bits, day=day, now=now, withdraw=withdraw))
    if as_json:
        print_json(
            {
                "shard_bits": found.bits,
                "changes": found.generation,
                "next_shard_bits": found.next_bits,
                "next_time": None if found.next_bits is None else _time(found.next_ms),
            }
        )
        return
    print_line(f"{found.bits} bits, {1 << found.bits} shards")
    if found.next_bits is not None:
        print_line(f"{found.next_bits} bits, {1 << found.next_bits} shards from {_time(found.next_ms)}")


async def _settle(
    loaded: Settings, bits: int | None, *, day: str | None, now: bool, withdraw: bool
) -> Sharding:
    async with opened_store(loaded) as access:
        now_ms = await access.catalog.now_ms()
        if bits is not None:
            from_ms = now_ms if now else _begin_ms(day, now_ms)
            return await access.catalog.ask_sharding(bits, from_ms=from_ms)
        if withdraw:
            return await access.catalog.ask_sharding(None, from_ms=0)
        found = (await access.catalog.cluster_view()).sharding
        return Sharding(loaded.shard_bits, 0) if found is None else found


def _begin_ms(day: str | None, now_ms: int) -> int:
    """Return when a UTC day begins: tomorrow where none is given."""
    if day is None:
        tomorrow = datetime.fromtimestamp(now_ms / 1000, UTC).date() + timedelta(days=1)
        begin = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=UTC)
    else:
        try:
            begin = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
        except ValueError:
            raise Failure(f"--from is {day!r}, expected a day as YYYYMMDD", code=Exit.USAGE) from None
    return int(begin.timestamp() * 1000)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
