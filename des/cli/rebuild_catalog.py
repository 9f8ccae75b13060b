"""`des rebuild-catalog`: the rows of the containers, from the object store alone."""

import asyncio
from uuid import uuid4

import typer

from des.cli import options, settings, text
from des.cli.exits import Exit
from des.cli.progress import metered
from des.cli.report import Report, say
from des.cli.store_access import opened_store
from des.config import Settings
from des.upkeep import RebuildReport, rebuild_catalog

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("rebuild-catalog")
def command(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    sets: settings.Set = None,
    as_json: options.Json = False,
) -> None:
    """Record every container of the object store that the catalog lacks; rows that are there stay.

    For a catalog that was lost, or restored from an older copy. No node may run meanwhile. Deleted files stay
    deleted as far as copies of their tombstones are in the object store: a node writes them within five
    minutes, `des gc --apply` those that are missing. Exit code 1 when an object under the key of a container
    or of such a copy could not be recorded; it stays as it is.
    """
    loaded = settings.load(config, settings.flags(sets, data_dir=data_dir))
    found = asyncio.run(_rebuild(loaded))
    report = Report(as_json=as_json)
    for row in found.recorded:
        report.done(
            {
                "container_id": row.container_id,
                "key": row.key,
                "files": row.geometry.file_count,
                "size": row.geometry.size,
            },
            f"{row.key}  {text.files(row.geometry.file_count)}  {text.size(row.geometry.size)}",
            size=row.geometry.size,
        )
    for key, why in sorted(found.refused.items()):
        say(f"{text.escape(key)}: not recorded: {why}")
    say(
        f"{len(found.recorded):,} containers recorded, {found.known:,} were known, "
        f"{len(found.segments):,} shipped log segments held, {found.tombstones:,} deleted names, "
        f"{len(found.superseded):,} hold only files of newer ones, {len(found.refused):,} refused"
    )
    if found.refused:
        raise typer.Exit(Exit.FAILED)


async def _rebuild(loaded: Settings) -> RebuildReport:
    async with opened_store(loaded, new=True) as access:
        with metered("Reading") as meter:
            return await rebuild_catalog(
                access.catalog,
                access.store,
                holder=str(uuid4()),
                prefix=loaded.object_prefix,
                on_container=lambda _: meter.add(files=1),
            )
