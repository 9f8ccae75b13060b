"""Which files a `des put` means: paths, and everything below folders."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

STDIN: Final = "-"


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
    """Yield what the paths mean, in the file system's order; memory is that of the folders' depth."""
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


def _below(folder: str, *, follow: bool) -> Iterator[Found]:
    """Walk one folder, depth first, without recursion: folders may be nested deeper than Python's stack."""
    prefix_size = len(os.path.join(folder, ""))  # noqa: PTH118  paths stay text
    stack: list[tuple[str, Iterator[os.DirEntry[str]], tuple[int, int]]] = []

    def enter(path: str) -> Unreadable | None:
        try:
            status = os.stat(path)  # noqa: PTH116  paths stay text
            identity = (status.st_dev, status.st_ino)
            if any(identity == above for *_, above in stack):
                return Unreadable(path, "is a link to a folder above it")
            stack.append((path, os.scandir(path), identity))
        except OSError as error:
            return Unreadable(path, error.strerror or str(error))
        return None

    if (unreadable := enter(folder)) is not None:
        yield unreadable
    while stack:
        inside, entries, _ = stack[-1]
        try:
            entry = next(entries, None)
        except OSError as error:
            stack.pop()
            yield Unreadable(inside, error.strerror or str(error))
            continue
        if entry is None:
            stack.pop()
            continue
        try:
            if entry.is_symlink() and not follow:
                yield Skipped(entry.path, "links skipped")
            elif entry.is_dir():
                if (unreadable := enter(entry.path)) is not None:
                    yield unreadable
            elif entry.is_file():
                yield Source(entry.path, entry.path[prefix_size:], entry.stat().st_size, explicit=False)
            else:
                status = entry.stat()
                yield Skipped(entry.path, f"{_kind(status.st_mode).split(maxsplit=1)[1]}s skipped")
        except OSError as error:
            yield Unreadable(entry.path, error.strerror or str(error))


def _kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a device"


def count(paths: Sequence[str], *, follow: bool) -> tuple[int, int]:
    """Return how many files there are and their bytes, as of now."""
    files = size = 0
    for found in find(paths, follow=follow):
        if isinstance(found, Source):
            files += 1
            size += found.size
    return files, size
