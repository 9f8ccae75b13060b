"""`des unpack`: an archive as a folder."""

import time
from contextlib import closing
from typing import Annotated

import typer

from des.cli import archive as archives
from des.cli import options, text
from des.cli.exits import Failure
from des.cli.folder import Folder
from des.cli.progress import metered
from des.cli.report import Report, say
from des.core import DesReader
from des.errors import DesError
from des.format.index import IndexEntry

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def unpack(
    archive: archives.Archive,
    *,
    folder: Annotated[
        str,
        typer.Option("--output", "-o", "--directory", "-C", metavar="DIR", help="Where to; made if absent."),
    ] = ".",
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only names that start with it.")] = "",
    mapped: archives.MapNames = False,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """Write the files of an archive below a folder, and never outside it.

    A file appears whole and verified or not at all; one that is there already is replaced. Links in the
    folder are not followed. A name that is no path below the folder is refused, or with --map written
    under an escaped name; the rest is written.
    """
    report = Report(as_json=as_json, lines=False)
    began = time.monotonic()
    with (
        archives.opened(archive, endpoint_url) as reader,
        closing(Folder.open(folder)) as target,
        metered("Unpacking") as meter,
    ):
        names = archives.SafeNames(reader, mapped=mapped)
        meter.expect(len(reader), None)
        for entry in reader.index:
            if entry.name.startswith(prefix):
                _write(reader, entry, names, target, report)
                meter.add(files=1, size=entry.data_length)
    if not as_json:
        say(report.summary("unpacked", time.monotonic() - began))
    report.end()


def _write(
    reader: DesReader, entry: IndexEntry, names: archives.SafeNames, target: Folder, report: Report
) -> None:
    size = 0
    try:
        path = names.path(entry.name)
        with target.replace(path) as file:
            for piece in reader.read_pieces(entry):
                file.write(piece)
                size += len(piece)
    except Failure as cause:
        report.failed({"name": entry.name}, cause)
    except (DesError, OSError) as error:
        report.failed({"name": entry.name}, archives.failure(error))
    else:
        record = {"name": entry.name, "path": path, "size": size}
        report.done(record, text.escape(path), size=size, explicit=False)
