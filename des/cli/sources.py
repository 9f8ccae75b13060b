"""Which files a `des put` means: paths, and everything below folders."""

import os
import select
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

STDIN: Final = "-"
READ_BYTES: Final = 1 << 20
POLL_S: Final = 0.2
"""How long a reader of a silent stream goes without looking whether it is still wanted."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file to store."""

    path: str
    """Where it is opened."""
    key: str
    """Its path below the folder that was named; of a file that was named itself, the path if it is relative
    and stays below the current folder, else the base name."""
    size: int
    """Bytes when it was looked at."""
    explicit: bool
    """True for a path the user named, false for one found in a folder."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes of unknown length that can be read once: stdin or a pipe."""

    path: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a folder that is no regular file."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A path that could not be looked at."""

    path: str
    why: str


Found: TypeAlias = Source | Stream | Skipped | Unreadable


def find(paths: Sequence[str], *, follow: bool) -> Iterator[Found]:
    """Yield what the paths mean, in the file system's order."""
    for path in paths:
        if path == STDIN:
            yield Stream(path)
            continue
        try:
            # The user named it, so a link is followed even without `follow`.
            status = os.stat(path)  # noqa: PTH116  paths stay text: pathlib would normalise them
        except OSError as error:
            yield Unreadable(path, error.strerror or str(error))
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _below(path, follow=follow)
        elif stat.S_ISREG(status.st_mode):
            yield Source(path, _key(path), status.st_size, explicit=True)
        elif stat.S_ISFIFO(status.st_mode):
            yield Stream(path)
        else:
            yield Unreadable(path, f"is {_kind(status.st_mode)}, expected a file, a folder or a pipe")


def _key(path: str) -> str:
    parts = os.path.normpath(path).split("/")
    if os.path.isabs(path) or os.pardir in parts:  # noqa: PTH117  paths stay text
        return parts[-1]
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    above: "_Folder | None" = None
    identity: tuple[int, int] = (0, 0)

    def lies_in(self, identity: tuple[int, int]) -> bool:
        folder = self.above
        while folder is not None:
            if folder.identity == identity:
                return True
            folder = folder.above
        return False


def _below(top: str, *, follow: bool) -> Iterator[Found]:
    """Walk one folder with one of them open at a time, however deep they are nested."""
    prefix_size = len(os.path.join(top, ""))  # noqa: PTH118  paths stay text
    pending = [_Folder(top)]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder.path)  # noqa: PTH116  paths stay text
            identity = (status.st_dev, status.st_ino)
            if folder.lies_in(identity):
                yield Unreadable(folder.path, "is a link to a folder above it")
                continue
            here = _Folder(folder.path, folder.above, identity)
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    found = _look(entry, prefix_size, follow=follow)
                    if found is None:
                        pending.append(_Folder(entry.path, here))
                    else:
                        yield found
        except OSError as error:
            yield Unreadable(folder.path, error.strerror or str(error))


def _look(entry: os.DirEntry[str], prefix_size: int, *, follow: bool) -> Found | None:
    """Say what an entry of a folder is; None for a folder to walk."""
    try:
        if entry.is_symlink() and not follow:
            return Skipped(entry.path, "links skipped")
        if entry.is_dir():
            return None
        status = entry.stat()
        if entry.is_file():
            return Source(entry.path, entry.path[prefix_size:], status.st_size, explicit=False)
        return Skipped(entry.path, f"{_kind(status.st_mode).split(maxsplit=1)[1]}s skipped")
    except OSError as error:
        return Unreadable(entry.path, error.strerror or str(error))


def _kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a device"


def count(paths: Sequence[str], stopped: Callable[[], bool], *, follow: bool) -> tuple[int, int] | None:
    """Return how many files there are and their bytes, as of now; None when stopped before the end."""
    files = size = 0
    for found in find(paths, follow=follow):
        if stopped():
            return None
        if isinstance(found, Source):
            files += 1
            size += found.size
    return files, size


class StreamReader:
    """Reads a stream piece by piece, from a thread that must not outlive an interrupted import."""

    def __init__(self, stream: Stream, stopped: Callable[[], bool]) -> None:
        """Open a pipe; stdin is open.

        Raises:
            OSError: it cannot be opened.
        """
        self._stopped = stopped
        self._owned = stream.path != STDIN
        # Non-blocking: opening a pipe would wait for its writer, and nothing could end that.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(stream.path, flags) if self._owned else 0

    def read(self) -> bytes:
        """Return the next bytes, empty at the end.

        Raises:
            InterruptedError: the import has ended.
        """
        while not self._stopped():
            ready, _, _ = select.select([self._fd], [], [], POLL_S)
            if ready:
                return os.read(self._fd, READ_BYTES)
        raise InterruptedError("interrupted")

    def close(self) -> None:
        """Close what was opened."""
        if self._owned:
            os.close(self._fd)
