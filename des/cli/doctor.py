"""`des doctor`: whether everything a node needs is there and does what it must."""

import asyncio
import os
from dataclasses import asdict
from typing import Final

import typer

from des.cli import options, settings
from des.cli.exits import Exit, Failure
from des.cli.report import print_json, print_line
from des.config import Settings
from des.node.diagnosis import Finding, Verdict, diagnose
from des.node.running_node import check_running_node

app = typer.Typer(add_completion=False, rich_markup_mode=None)

MARKS: Final = {Verdict.OK: "ok", Verdict.WARNING: "WARN", Verdict.FAILED: "FAIL"}


@app.command()
def doctor(
    *,
    config: settings.Config = None,
    data_dir: settings.DataDir = None,
    http_listen: settings.HttpListen = None,
    sets: settings.Set = None,
    as_json: options.Json = False,
) -> None:
    """Look at data folder, catalog and object store as `des serve` would use them, and at a server that runs.

    Nothing is changed. The server is asked at `http_listen` for what its own checks found; DES_TOKEN is shown
    to one that tells callers apart.

    An object store is asked with a few small objects, which are removed again. Exit code 0 when a node would
    run, also with warnings; 3 when something did not answer; 1 when something is wrong.
    """
    loaded = settings.load(config, settings.flags(sets, data_dir=data_dir, http_listen=http_listen))
    found = asyncio.run(_look(loaded))
    for finding in found:
        if as_json:
            print_json(asdict(finding))
        else:
            _show(finding)
    bad = [finding for finding in found if finding.verdict is Verdict.FAILED]
    if bad:
        code = Exit.UNAVAILABLE if all(finding.unavailable for finding in bad) else Exit.FAILED
        raise Failure(f"{len(bad)} of {len(found)} checks failed", code=code)


async def _look(loaded: Settings) -> list[Finding]:
    return [
        *(Finding("environment", Verdict.WARNING, str(stray)) for stray in settings.strays()),
        *await diagnose(loaded),
        *await check_running_node(loaded, token=os.environ.get("DES_TOKEN", "")),
    ]


def _show(finding: Finding) -> None:
    print_line(f"{MARKS[finding.verdict]:<4}  {finding.part}: {finding.found}")
    if finding.advice:
        print_line(f"      {finding.advice}")
