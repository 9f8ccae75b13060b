"""`des recover`: what crashes left half done, of nodes that do not come back."""

import asyncio
from typing import Annotated

import typer

from des.cli import options, settings, text
from des.cli.exits import Exit
from des.cli.report import print_json, print_line, say
from des.cli.store_access import opened_store
from des.config import Settings
from des.upkeep.unfinished import Debt, RecoveryReport, recover

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MEANING = {
    Debt.ADOPT: "its object is whole; --apply records it",
    Debt.REPEAT: "it has no object; its node makes it again from its log",
    Debt.UNDECIDED: "its object could not be read",
    Debt.DAMAGED: "its object is not what was announced; it is left alone",
}


@app.command("recover")
def command(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    sets: settings.Set = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply", help="Record containers whose every byte is there; abort uploads of yesterday."
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show the containers that were announced and not recorded. Nothing is ever deleted.

    A node settles its own when it starts; this is for nodes that are lost. Exit code 3 when an object could
    not be read, 1 when something is left to do.
    """
    loaded = settings.load(config, settings.flags(sets, data_dir=data_dir))
    found = asyncio.run(_recover(loaded, apply=apply))
    adopted = {row.key for row in found.adopted}
    for one in found.unfinished:
        state = "recorded" if one.row.key in adopted else one.debt.value
        detail = found.stayed.get(one.row.key, one.detail)
        if as_json:
            print_json(
                {
                    "container_id": one.row.container_id,
                    "key": one.row.key,
                    "state": state,
                    "files": one.row.geometry.file_count,
                    "node": one.row.node,
                    "detail": detail,
                }
            )
        else:
            meaning = "recorded now" if one.row.key in adopted else _MEANING[one.debt]
            extra = f" ({detail})" if detail else ""
            print_line(f"{one.row.key}  {text.files(one.row.geometry.file_count)}: {meaning}{extra}")
    left = len(found.unfinished) - len(adopted)
    say(
        f"{len(found.unfinished):,} unfinished containers, {len(adopted):,} recorded; "
        f"{found.aborted_uploads:,} multipart uploads aborted"
    )
    if any(one.debt is Debt.UNDECIDED for one in found.unfinished):
        raise typer.Exit(Exit.UNAVAILABLE)
    if left:
        raise typer.Exit(Exit.FAILED)


async def _recover(loaded: Settings, *, apply: bool) -> RecoveryReport:
    async with opened_store(loaded, lock=apply) as access:
        return await recover(
            access.catalog,
            access.store,
            claim=access.claim,
            apply=apply,
            prefix=loaded.object_prefix,
        )
