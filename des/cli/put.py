"""`des put`: store files, folders or stdin."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from des_client import Durability

from des.cli import options, sources
from des.cli.connection import connected_async
from des.cli.manifest import ManifestWriter
from des.cli.progress import Meter, metered
from des.cli.report import Report, say
from des.cli.upload import Choice, Upload

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Promise(StrEnum):
    """Durability to wait for."""

    LOCAL = "local"
    STORED = "stored"


@app.command()
def put(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files, folders (with all below them), or - for stdin."),
    ],
    *,
    name: Annotated[str | None, typer.Option(help="Name for the one file given; default: a new one.")] = None,
    prefix: Annotated[str, typer.Option(help="First part of new names; default: the server's.")] = "",
    content_type: Annotated[
        str | None, typer.Option(help="Content type of every file; default: guessed.")
    ] = None,
    no_content_type: Annotated[bool, typer.Option("--no-content-type", help="Store no guessed one.")] = False,
    meta: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Metadata; may be repeated.")
    ] = None,
    no_path: Annotated[
        bool, typer.Option("--no-path", help="Do not store each file's path as metadata `path`.")
    ] = False,
    durability: Annotated[
        Promise | None, typer.Option(help="Answer when synced on the server's disk, or in the object store.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Follow symbolic links inside folders.")] = False,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append NAME, SHA-256 and path of each stored file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip paths that the manifest holds.")] = False,
    retry_for: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Outlast a server that is away for this long.")
    ] = 60.0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=1024, help="Files in flight at once.")] = 64,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print each name, on a terminal too.")
    ] = False,
    as_json: options.Json = False,
    address: options.Address = options.DEFAULT_ADDRESS,
) -> None:
    """Store files, folders or stdin, and print `NAME  PATH` for each.

    A file that fails does not stop the rest; the summary counts it and the exit code is 1. Links, sockets,
    pipes and devices inside folders are skipped and counted. For a large import use `--manifest FILE`: when
    it is interrupted, the same command with `--resume` goes on, and `des get --manifest FILE` brings
    everything back.
    """
    if name is not None and (len(paths) != 1 or Path(paths[0]).is_dir()):
        raise typer.BadParameter("a name is for one file; give one file or -", param_hint="--name")
    if paths.count(sources.STDIN) > 1:
        raise typer.BadParameter("stdin can be read once", param_hint="PATH")
    if resume and manifest is None:
        raise typer.BadParameter("needs --manifest FILE", param_hint="--resume")
    choice = Choice(
        name=name,
        prefix=prefix,
        content_type=content_type,
        guess_content_type=not no_content_type,
        keep_path=not no_path,
        metadata=dict(_pair(one) for one in meta or ()),
        durability=None if durability is None else Durability(durability),
        follow=follow,
        in_flight=jobs,
    )
    report = Report(as_json=as_json, lines=verbose or not sys.stdout.isatty())
    asyncio.run(_put(paths, choice, report, manifest, resume=resume, address=address, retry_for_s=retry_for))
    report.end()


def _pair(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"found {given!r}, expected KEY=VALUE", param_hint="--meta")
    return key, value


async def _put(
    paths: list[str],
    choice: Choice,
    report: Report,
    file: Path | None,
    *,
    resume: bool,
    address: str,
    retry_for_s: float,
) -> None:
    writer = None if file is None else ManifestWriter(file)
    try:
        async with connected_async(address, patience_s=retry_for_s) as client:
            started_s = time.monotonic()
            try:
                with metered("put") as meter, counting(paths, choice, meter):
                    await Upload(client, choice, report, meter, writer, resume=resume).run(paths)
            finally:
                if report.total_count != 1:
                    say(report.summary("put", time.monotonic() - started_s))
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def counting(paths: list[str], choice: Choice, meter: Meter) -> Iterator[None]:
    """Find out how much there is, for the time left, while the block has begun to store it."""
    stopped = threading.Event()

    def count() -> None:
        if (counted := sources.count(paths, stopped.is_set, follow=choice.follow)) is not None:
            meter.expect(*counted)

    counter = threading.Thread(target=count, name="count")
    if meter.shown:
        counter.start()
    try:
        yield
    finally:
        stopped.set()
        if meter.shown:
            counter.join()
