"""`des gc`: objects that are nobody's any more."""

import asyncio
from typing import Annotated

import typer

from des.cli import options, settings, text
from des.cli.report import Report, print_json, say
from des.cli.store_access import opened_store
from des.config import Settings
from des.upkeep import GarbageCollector, GarbageReport, GcLimits

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("gc")
def command(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    sets: settings.Set = None,
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it nothing is deleted.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show the objects that may go, and with --apply delete them.

    An object goes when its container was replaced or given up, its shipped log segment is no longer needed,
    or its big file was deleted, each at least gc.grace_s ago; or when the catalog does not know it, it was
    seen at least gc.unnamed_s ago and again, and every file in it was found in a recorded container. A run
    that would delete more than gc.objects_max or gc.bytes_max deletes nothing. Containers whose shards a
    running node holds stay; give that node gc.every_s.
    """
    loaded = settings.load(config, settings.flags(sets, data_dir=data_dir))
    found = asyncio.run(_collect(loaded, apply=apply))
    report = Report(as_json=as_json)
    for one in found.deleted if apply else found.doomed:
        verb = "deleted" if apply else "may go"
        report.done(
            {"key": one.key, "cause": str(one.cause), "size": one.size, "deleted": apply},
            f"{one.key}  {verb}: {one.cause}  {text.size(one.size)}",
            size=one.size,
        )
    for key, why in sorted(found.stayed.items()):
        if as_json:
            print_json({"key": key, "stays": why})
        else:
            say(f"{text.escape(key)}: stays: {why}")
    size = text.size(report.done_size)
    if apply:
        say(f"{report.done_count:,} objects deleted, {size}; {len(found.stayed):,} stay")
        if found.released:
            say(f"{len(found.released):,} shipped log segments are nobody's and go later")
        if found.copied:
            say(f"{found.copied:,} deleted names copied to the object store")
    else:
        say(f"{report.done_count:,} objects may go, {size}; --apply deletes them")


async def _collect(loaded: Settings, *, apply: bool) -> GarbageReport:
    async with opened_store(loaded, lock=apply) as access:
        collector = GarbageCollector(
            catalog=access.catalog,
            store=access.store,
            clock=access.clock,
            claim=access.claim,
            shard_bits=access.settings.shard_bits,
            limits=GcLimits.of(loaded.gc),
            object_prefix=loaded.object_prefix,
        )
        return await collector.collect(apply=apply)
