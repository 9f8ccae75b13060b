"""`des fsck`: whether the store holds what its catalog says."""

import asyncio
import re
from typing import Annotated

import typer

from des.cli import options, settings, text
from des.cli.exits import Exit, Failure
from des.cli.progress import metered
from des.cli.report import Report, print_json, say
from des.cli.store_access import opened_store
from des.config import Settings
from des.upkeep import Depth, FsckReport, fsck
from des.upkeep.fsck import Kind

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_SUBSET = re.compile(r"([1-9]\d*)/([1-9]\d*)")
_CODES = {Kind.UNDECIDED: Exit.UNAVAILABLE, Kind.CORRUPT: Exit.CORRUPT, Kind.CHANGED: Exit.CORRUPT}


@app.command("fsck")
def command(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    sets: settings.Set = None,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every byte and compare it with the recorded SHA-256.")
    ] = False,
    read_data_subset: Annotated[
        str | None,
        typer.Option("--read-data-subset", metavar="N/T", help="Read the N-th of T parts of the containers."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Look at sizes and etags only.")] = False,
    as_json: options.Json = False,
) -> None:
    """Compare catalog and object store, and read the structure of every container; nothing is changed.

    One line for each thing found. Exit code 6 when something is corrupt, 1 when something is missing or
    doubled, 3 when something could not be read, which says nothing about it. May run beside a server.
    """
    depth = Depth.OBJECT if quick else Depth.STRUCTURE
    subset = (1, 1)
    if read_data or read_data_subset:
        depth = Depth.DATA
        subset = _subset(read_data_subset)
    loaded = settings.load(config, settings.flags(sets, data_dir=data_dir))
    found = asyncio.run(_check(loaded, depth, subset))
    report = Report(as_json=as_json)
    for one in found.findings:
        if one.is_problem:
            failure = Failure(f"{one.kind}: {one.detail}", code=_CODES.get(one.kind, Exit.FAILED))
            report.failed({"kind": str(one.kind), "key": one.key}, failure)
        elif as_json:
            print_json({"kind": str(one.kind), "key": one.key, "note": one.detail})
        else:
            say(f"{text.escape(one.key)}: note: {one.kind}: {one.detail}")
    if as_json:
        print_json(
            {
                "containers": found.containers,
                "files": found.files,
                "size": found.bytes,
                "objects": found.objects,
                "problems": len(found.problems),
                "notes": len(found.findings) - len(found.problems),
            }
        )
    else:
        verdict = "sound" if not found.problems else f"{len(found.problems):,} problems"
        say(
            f"{verdict}: {found.containers:,} containers, {text.files(found.files)}, "
            f"{text.size(found.bytes)}; {found.objects:,} objects in the store"
        )
    report.end()


async def _check(loaded: Settings, depth: Depth, subset: tuple[int, int]) -> FsckReport:
    async with opened_store(loaded) as access:
        with metered("Checking") as meter:
            return await fsck(
                access.catalog,
                access.store,
                depth=depth,
                subset=subset,
                prefix=loaded.object_prefix,
                on_container=lambda row: meter.add(files=row.geometry.file_count, size=row.geometry.size),
            )


def _subset(wanted: str | None) -> tuple[int, int]:
    if wanted is None:
        return 1, 1
    match = _SUBSET.fullmatch(wanted)
    if match is None or int(match[1]) > int(match[2]):
        raise typer.BadParameter(f"found {wanted!r}, expected N/T with 1 <= N <= T", param_hint="N/T")
    return int(match[1]), int(match[2])
