"""What the verbs over archives share: opening one, naming its files on a disk, saying what went wrong."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final
from urllib.parse import quote

import typer

from des.cli.archive_place import opened_source
from des.cli.exits import Exit, Failure, os_error
from des.cli.folder import parts
from des.core import DesReader
from des.core.byte_source import ByteSource
from des.errors import (
    AlreadyExistsError,
    CorruptError,
    DesError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)

EXITS: Final[tuple[tuple[type[DesError], Exit], ...]] = (
    (CorruptError, Exit.CORRUPT),
    (NotFoundError, Exit.NOT_FOUND),
    (AlreadyExistsError, Exit.CONFLICT),
    (InvalidInputError, Exit.USAGE),
    (UnavailableError, Exit.UNAVAILABLE),
)
"""The first row that fits decides; every other error is FAILED."""

NAME_MAX: Final = 255
"""Bytes of one name in a folder (Linux)."""
Archive = Annotated[
    str,
    typer.Argument(metavar="ARCHIVE", help="A container: a local file, or s3://, gs:// or az://BUCKET/KEY."),
]
NewArchive = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="ARCHIVE",
        help="The new archive, local or in a store; it must not exist.",
    ),
]
EndpointUrl = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="Where the store is, if not at its usual place; also AWS_ENDPOINT_URL_S3. Credentials as for "
        "the maker's own tools.",
    ),
]
MapNames = Annotated[
    bool, typer.Option("--map", help="Write names that are no safe path under an escaped one.")
]


def failure(error: DesError | OSError, archive: str = "") -> Failure:
    """Translate an error of the format or of the disk; it is of `archive` where it does not say of what."""
    if isinstance(error, DesError):
        code = next((code for kind, code in EXITS if isinstance(error, kind)), Exit.FAILED)
        shown = str(error)
        if archive and archive not in shown:
            shown = f"{archive}: {shown}"
        return Failure(shown, code=code, reason=error.reason)
    if archive and not error.filename:
        error.filename = archive
    missing = isinstance(error, FileNotFoundError)
    code = Exit.NOT_FOUND if missing else Exit.FAILED
    return Failure(os_error(error), code=code, reason=type(error).__name__)


@contextmanager
def translated(archive: str = "") -> Iterator[None]:
    """Turn every deliberate error in the block into a failure of the verb, as `failure` does."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (DesError, OSError) as error:
        raise failure(error, archive) from None


@contextmanager
def opened(archive: str, endpoint_url: str | None) -> Iterator[DesReader]:
    """Open a sound container to read its files."""
    with opened_raw(archive, endpoint_url) as source, DesReader(source) as reader:
        yield reader


@contextmanager
def opened_raw(archive: str, endpoint_url: str | None) -> Iterator[ByteSource]:
    """Open what may be a damaged container."""
    with translated(archive), opened_source(archive, endpoint_url) as source:
        yield source


class SafeNames:
    """Paths for the files of one archive: relative, below where they are written."""

    def __init__(self, reader: DesReader, *, mapped: bool) -> None:
        self._reader = reader
        self._mapped = mapped

    def path(self, name: str) -> str:
        """Return the path of a file.

        Raises:
            Failure: the name is no safe path, and names are not to be mapped, or the mapped one is taken.
        """
        try:
            if all(len(part.encode()) <= NAME_MAX for part in parts(name)):
                return name
            cause = f"path {name[:80]!r} has a part longer than {NAME_MAX} bytes"
        except Failure as failure:
            cause = str(failure)
        if not self._mapped:
            raise Failure(f"{cause}; --map gives it another name", reason="UNSAFE_PATH")
        path = mapped_name(name)
        if path in self._reader:
            raise Failure(f"{cause}; {path!r}, its name under --map, is another file", reason="UNSAFE_PATH")
        return path


def mapped_name(name: str) -> str:
    """Return one part of a path that stands for any name.

    >>> mapped_name("../etc/passwd"), mapped_name("..")
    ('..%2Fetc%2Fpasswd', '%2E%2E')
    """
    quoted = quote(name, safe="")
    if quoted in {".", ".."}:
        return quoted.replace(".", "%2E")
    if len(quoted) <= NAME_MAX:
        return quoted
    # The digest tells apart what the cut makes alike.
    return f"{quoted[:180]}~" + hashlib.sha256(name.encode()).hexdigest()[:32]
