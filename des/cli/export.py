"""`des export`: an archive as a tar or zip file."""

import io
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeAlias

import typer

from des.cli import archive as archives
from des.cli import options, text
from des.cli.exits import Exit, Failure
from des.cli.progress import metered
from des.cli.report import Report
from des.core import DesReader
from des.core.sink import create_beside
from des.errors import DesError
from des.format.index import IndexEntry

STDOUT: Final = "-"
ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip file can say: archives keep none, and the same files give the same bytes."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Add: TypeAlias = Callable[[str, int, Iterator[bytes]], None]
"""Takes a path, a size and the bytes."""


class Kind(StrEnum):
    """What to export to."""

    TAR = "tar"
    ZIP = "zip"


@app.command()
def export(
    archive: archives.Archive,
    *,
    to: Annotated[Kind, typer.Option(help="The kind of file.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE|-", help="Where to; - is stdout.")
    ] = STDOUT,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only names that start with it.")] = "",
    mapped: archives.MapNames = False,
    endpoint_url: archives.EndpointUrl = None,
    as_json: options.Json = False,
) -> None:
    """Write the files of an archive as a tar (POSIX) or zip file, in the order they were packed.

    A file is verified before its first byte is written. Names that are no safe path are refused, or with
    --map escaped; the rest is written.
    """
    if output == STDOUT and as_json:
        raise typer.BadParameter("- takes no --json", param_hint="--output")
    report = Report(as_json=as_json, lines=False)
    with (
        archives.opened(archive, endpoint_url) as reader,
        metered("Exporting") as meter,
        _target(output) as file,
    ):
        names = archives.SafeNames(reader, mapped=mapped)
        meter.expect(len(reader), None)
        with _tar(file) if to is Kind.TAR else _zip(file) as add:
            for entry in reader.index:
                if entry.name.startswith(prefix):
                    _export(reader, entry, names, add, report)
                    meter.add(files=1, size=entry.data_length)
    report.end()


def _export(
    reader: DesReader, entry: IndexEntry, names: archives.SafeNames, add: Add, report: Report
) -> None:
    try:
        path = names.path(entry.name)
        size = reader.stat(entry.name).size
        pieces = reader.read_pieces(entry)
        # The first piece is read before anything is written: most damage shows here, and costs one file.
        first = next(pieces)
    except Failure as cause:
        report.failed({"name": entry.name}, cause)
        return
    except DesError as error:
        report.failed({"name": entry.name}, archives.failure(error))
        return

    def whole() -> Iterator[bytes]:
        yield first
        yield from pieces

    add(path, size, whole())
    record = {"name": entry.name, "path": path, "size": size}
    report.done(record, text.escape(path), size=size, explicit=False)


@contextmanager
def _tar(file: BinaryIO) -> Iterator[Add]:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:

        def add(path: str, size: int, pieces: Iterator[bytes]) -> None:
            header = tarfile.TarInfo(path)
            header.size = size
            header.mode = 0o644
            tar.addfile(header, io.BufferedReader(_Pieces(pieces)))

        yield add


@contextmanager
def _zip(file: BinaryIO) -> Iterator[Add]:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(path: str, size: int, pieces: Iterator[bytes]) -> None:
            header = zipfile.ZipInfo(path, ZIP_TIME)
            header.compress_type = zipfile.ZIP_DEFLATED
            header.external_attr = 0o100644 << 16
            header.file_size = size
            with archive.open(header, "w", force_zip64=size > zipfile.ZIP64_LIMIT // 2) as member:
                for piece in pieces:
                    member.write(piece)

        yield add


@contextmanager
def _target(output: str) -> Iterator[BinaryIO]:
    """Open stdout, or a file that appears when the block ends well."""
    if output == STDOUT:
        if sys.stdout.isatty():
            raise Failure("stdout is a terminal: name a file with --output", code=Exit.USAGE)
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    descriptor, temporary = create_beside(path, mode=0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


class _Pieces(io.RawIOBase):
    """Pieces as a file to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # a buffer, as CPython gives it
        """Take some of the next piece; 0 behind the last."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
