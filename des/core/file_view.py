"""What both readers say about a file, and how both refuse."""

from collections.abc import Iterable
from dataclasses import dataclass

from des.errors import CorruptError, NotFoundError, OutOfRangeError
from des.format.errors import UnsupportedContainerError
from des.format.index import IndexEntry
from des.format.metadata import Metadata
from des.format.name_key import name_digest


class FileNotInContainerError(NotFoundError):
    """The container has no file of this name."""


class RangeOutsideFileError(OutOfRangeError):
    """The range starts behind the file's end."""


class ExternalFileMissingError(CorruptError):
    """A container names an object that holds a file's bytes, and that object is not there."""


class ExternalFileOutOfReachError(UnsupportedContainerError):
    """A file's bytes lie in an object of their own, and this reader was not told how to read it."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Everything a container says about one file."""

    entry: IndexEntry
    metadata: Metadata

    @property
    def name(self) -> str:
        """The file's name."""
        return self.entry.name

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.metadata.size

    @property
    def crc32c(self) -> int | None:
        """CRC32C of the file; None where the container records none."""
        return self.metadata.system.crc32c


def clip_range(name: str, size: int, offset: int, limit: int | None) -> tuple[int, int]:
    """Return the half-open range of a file of `size` bytes that `offset` and `limit` mean.

    Raises:
        RangeOutsideFileError: `offset` is negative or lies behind the end, or `limit` is negative.
    """
    if not 0 <= offset <= size or (limit is not None and limit < 0):
        raise RangeOutsideFileError(
            f"range of {limit} bytes from {offset} is not in {name!r}, which has {size}", size=size
        )
    return offset, size if limit is None else min(size, offset + limit)


def digest_of(name: str) -> bytes | None:
    """Return a name's digest; None where no container can have such a name."""
    try:
        return name_digest(name.encode())
    except UnicodeEncodeError:
        return None


def sorted_names(index: Iterable[IndexEntry], prefix: str, start_after: str, limit: int | None) -> list[str]:
    """Return a page of names from INDEX, where there is no NAMES."""
    names = sorted(
        entry.name for entry in index if entry.name.startswith(prefix) and entry.name > start_after
    )
    return names[:limit]


def missing(name: str, container: str) -> FileNotInContainerError:
    """Return the error for a name that a container does not have."""
    return FileNotInContainerError(f"{container} has no file {name!r}", name=name)
