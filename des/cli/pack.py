"""`des pack`: a folder as one archive."""

import mimetypes
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import google_crc32c
import typer

from des.cli import archive as archives
from des.cli import options, sources, text
from des.cli.archive_place import new_archive
from des.cli.exits import Failure
from des.cli.progress import Meter, metered
from des.cli.report import Report, say
from des.core import DesWriter
from des.format.compression import COMPRESSED_RAW_LENGTH_MAX
from des.format.compressor import Compressor, Samples
from des.format.errors import InvalidEntryError
from des.format.layout import Layout

CHUNK_BYTES: Final = 1 << 20

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Compression(StrEnum):
    """Whether files are compressed."""

    AUTO = "auto"
    OFF = "off"


@app.command()
def pack(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder.")],
    *,
    output: archives.NewArchive,
    layout: Annotated[Layout, typer.Option(help="v1: readable by the origin's readers.")] = Layout.FRAMED,
    compression: Annotated[
        Compression, typer.Option(help="auto: where it pays, in the layout framed.")
    ] = Compression.AUTO,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """Pack every regular file below a folder into one archive, named by its path below the folder.

    Files are packed in the order of their names, and nothing but names and bytes is kept: the same tree
    gives the same archive. The archive appears whole or not at all. A file that cannot be packed is
    reported, and the rest is packed; links are not followed.
    """
    if not os.path.isdir(folder):  # noqa: PTH112  paths stay text: pathlib would normalise them
        raise Failure(f"{folder} is no folder", reason="NotADirectoryError")
    report = Report(as_json=as_json, lines=False)
    began = time.monotonic()
    with (
        metered("Packing") as meter,
        archives.translated(),
        new_archive(output, endpoint_url) as target,
    ):
        found = sorted(_find(folder, report), key=lambda source: source.key)
        meter.expect(len(found), sum(source.size for source in found))
        compressor = None
        if compression is Compression.AUTO and layout is Layout.FRAMED:
            compressor = _train(found)
        with DesWriter(target, layout=layout, digest=False, compressor=compressor) as writer:
            for source in found:
                _add(writer, source, report, meter)
    if not as_json:
        say(report.summary("packed", time.monotonic() - began))
        say(f"{output} has {text.size(writer.size)}")
    report.end()


def _find(folder: str, report: Report) -> Iterator[sources.Source]:
    for found in sources.find([folder], follow=False):
        match found:
            case sources.Source():
                yield found
            case sources.Skipped():
                report.skip(found.why)
            case _:
                why = found.why if isinstance(found, sources.Unreadable) else "is a pipe"
                report.failed({"path": found.path}, Failure(why, reason="UNREADABLE"))


def _train(found: list[sources.Source]) -> Compressor:
    samples = Samples.choose((_kind(source.key), source.size) for source in found)
    loaded: dict[int, bytes] = {}
    for place in samples.places:
        try:
            with _open(found[place]) as file:
                loaded[place] = file.read(COMPRESSED_RAW_LENGTH_MAX)
        except OSError:
            loaded[place] = b""  # reported when it is packed
    return Compressor.train(samples, loaded)


def _add(writer: DesWriter, source: sources.Source, report: Report, meter: Meter) -> None:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_open(source))
            # One byte more than may be compressed shows a long file.
            data = file.read(COMPRESSED_RAW_LENGTH_MAX + 1)
            size, crc32c = len(data), google_crc32c.value(data)
            if size > COMPRESSED_RAW_LENGTH_MAX:
                # A frame says the checksum before the bytes, so a long file is read twice.
                for chunk in _chunks(file):
                    size += len(chunk)
                    crc32c = google_crc32c.extend(crc32c, chunk)
                file.seek(0)
        except OSError as error:
            report.failed({"path": source.path}, archives.failure(error))
            return
        whole = data if size <= COMPRESSED_RAW_LENGTH_MAX else _chunks(file)
        try:
            writer.add_file(
                source.key,
                whole,
                size=size,
                crc32c=crc32c if writer.layout is Layout.FRAMED else None,
                kind=_kind(source.key),
            )
        except InvalidEntryError as error:
            report.failed({"path": source.path}, archives.failure(error))
            return
    report.done({"name": source.key, "size": size}, text.escape(source.key), size=size, explicit=False)
    meter.add(files=1, size=size)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _open(source: sources.Source) -> BinaryIO:
    # Non-blocking: a pipe that took the file's place must not hang us; a link must not lead us away.
    fd = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    return os.fdopen(fd, "rb")


_TYPES: Final = mimetypes.MimeTypes(filenames=())
"""The interpreter's own table: the machine's would make other archives of the same folder."""


def _kind(path: str) -> str:
    """Return what chooses a file's dictionary: its content type, or what stands behind its last dot."""
    return _TYPES.guess_type(path)[0] or Path(path).suffix.lower()
