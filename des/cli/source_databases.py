"""`des sources`: the source databases of marker and packers, before any of them runs."""

import asyncio
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from des.cli.exits import Exit, Failure
from des.cli.report import print_json, print_line, say
from des.clock import SystemClock
from des.sources import SourceConfig, SourceConfigError, SourcesConfig, load_sources
from des.sources.checkup import SourceReport, check_source

DEFAULT: Final = Path("configs/source_databases.yaml")

SourcesFile = Annotated[
    Path,
    typer.Option(
        "--sources", metavar="FILE", envvar="DES_SOURCES", help="YAML file of the source databases."
    ),
]

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def sources() -> None:
    """Look at the source databases that rows are packed from."""


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE]...", show_default=False)] = None,
    *,
    path: SourcesFile = DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per source.")] = False,
) -> None:
    """Connect to each source, compare its table with the configuration, try the privileges, count its rows.

    Changes nothing. What the tables lack is printed as statements for their owner to run.
    """
    chosen = choose(read_sources(path), names or [])
    reports = asyncio.run(_check_all(chosen))
    for report in reports:
        if as_json:
            print_json(asdict(report))
        else:
            _print(report)
    if bad := sum(bool(report.mistakes) for report in reports):
        raise Failure(f"{bad} of {len(reports)} sources cannot be worked on", code=Exit.FAILED)


def read_sources(path: Path) -> SourcesConfig:
    """Read the file.

    Raises:
        Failure: with one line per mistake.
    """
    try:
        return load_sources(path, os.environ)
    except SourceConfigError as error:
        raise Failure(f"wrong configuration of sources\n{error}", code=Exit.USAGE) from None


def choose(config: SourcesConfig, names: list[str]) -> dict[str, SourceConfig]:
    """Return the named sources, or all that are enabled.

    Raises:
        Failure: there is none of that name.
    """
    for name in names:
        if name not in config.sources:
            known = ", ".join(config.sources)
            raise Failure(f"no source {name!r}, the file has {known}", code=Exit.USAGE)
    return {name: config.sources[name] for name in names} if names else config.enabled


async def _check_all(sources: dict[str, SourceConfig]) -> list[SourceReport]:
    clock = SystemClock()
    return await asyncio.gather(*(check_source(name, config, clock) for name, config in sources.items()))


def _print(report: SourceReport) -> None:
    counts = asdict(report.counts) if report.counts else {}
    told = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    print_line(f"{report.name}: {'does not fit' if report.mistakes else 'ok'}{f', {told}' if told else ''}")
    for mistake in report.mistakes:
        for line in mistake.splitlines():
            print_line(f"  {line}")
    if report.clock_ahead_ms is not None and abs(report.clock_ahead_ms) > 60_000:
        say(f"{report.name}: its clock is {report.clock_ahead_ms / 1000:,.0f} s ahead of this machine's")
    if report.ddl:
        print_line("  statements that add what is missing:")
        for line in report.ddl:
            print_line(f"    {line};")
