"""`des get`: fetch files by name, or a manifest into a folder."""

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from des.cli import options, text
from des.cli.connection import connected, connected_async
from des.cli.download import Download, Wanted
from des.cli.exits import Failure
from des.cli.folder import Folder
from des.cli.manifest import read_last
from des.cli.progress import metered
from des.cli.report import Report, say

app = typer.Typer(add_completion=False, rich_markup_mode=None)

STDOUT = "-"


@app.command()
def get(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Names of the files.")
    ] = None,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|FILE|-", help="Where to; - is stdout.")
    ] = ".",
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Fetch every file of a manifest, under its path.")
    ] = None,
    retry_for: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Outlast a server that is away for this long.")
    ] = 60.0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=1024, help="Files in flight at once.")] = 32,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Fetch files, and print `NAME  PATH` for each.

    A file appears whole and verified or not at all; one that is there already is replaced. With several
    names --output is a folder. With --manifest a file that is there already with the right SHA-256 is left
    alone, so an interrupted fetch goes on where it stopped; nothing is written outside the folder.
    """
    if bool(names) == (manifest is not None):
        raise typer.BadParameter("give names, or --manifest FILE", param_hint="NAME")
    if output == STDOUT:
        if not names or as_json:
            raise typer.BadParameter("- takes names, and no --json", param_hint="--output")
        with connected(address, timeout_s=max(retry_for, options.DEFAULT_TIMEOUT_S)) as client:
            for name in names:
                client.get_to(name, sys.stdout.buffer)
        return
    report = Report(as_json=as_json, lines=not sys.stdout.isatty())
    plan = _plan(names or [], output, manifest)
    asyncio.run(_get(plan, report, address=address, retry_for_s=retry_for, jobs=jobs))
    report.end()


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes where."""

    folder: str
    wanted: Iterable[Wanted]
    count: int


def _plan(names: list[str], output: str, manifest: Path | None) -> Plan:
    if manifest is not None:
        # Read twice, to check all of it before the first file is fetched and to count.
        count = sum(1 for _ in read_last(manifest))
        return Plan(output, (Wanted(one.name, one.path, one.sha256) for one in read_last(manifest)), count)
    if len(names) == 1 and not output.endswith("/") and not Path(output).is_dir():
        folder, file = os.path.split(output)
        return Plan(folder or ".", [Wanted(names[0], file)], 1)
    wanted = [Wanted(name, name) for name in dict.fromkeys(names)]
    return Plan(output, wanted, len(wanted))


async def _get(plan: Plan, report: Report, *, address: str, retry_for_s: float, jobs: int) -> None:
    async with connected_async(address, patience_s=retry_for_s) as client:
        started_s = time.monotonic()
        try:
            folder = Folder.open(plan.folder)
        except OSError as error:
            raise Failure(f"{text.escape(plan.folder)}: {error.strerror}") from None
        try:
            with metered("get") as meter:
                meter.expect(plan.count, None)
                await Download(client, plan.folder, folder, report, meter).run(plan.wanted, jobs)
        finally:
            folder.close()
            if plan.count != 1:
                say(report.summary("got", time.monotonic() - started_s))
