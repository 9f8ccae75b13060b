"""Where a writer's bytes go: a stream of the caller's, or a path that appears whole or not at all."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final, Protocol

from des.core.background_digest import BackgroundDigest
from des.core.write_behind import WriteBehind
from des.errors import AlreadyExistsError
from des.format.block_crc import BLOCK_SIZE
from des.format.checksums import BlockChecksums

BUFFER_SIZE: Final = 1 << 20
"""Bytes gathered before they are hashed and written: small files cost no system call each."""
JOINED_MAX: Final = 1 << 15
"""Bytes of a part below which it is joined to its neighbours: of a longer one that copies too much."""
_PARTS_MAX: Final = 1 << 10
"""Parts of one system call (Linux's IOV_MAX)."""


class ContainerExistsError(AlreadyExistsError):
    """The path to write a container to is taken."""


class ByteStream(Protocol):
    """What a container can be written to: any binary file open for writing, or its like."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Append some of `data` and return how many bytes; None when nothing can be taken now."""
        ...

    def flush(self) -> object:
        """Hand on what is held back."""
        ...


class Sink(Protocol):
    """Takes a container front to back."""

    size: int
    """Bytes taken so far."""

    def write(self, *parts: bytes) -> None:
        """Append `parts`; they may wait in memory until `commit`."""
        ...

    def sha256(self) -> str:
        """Return the SHA-256 of all bytes taken, in hexadecimal."""
        ...

    def checksums(self) -> tuple[tuple[int, ...], bytes | None]:
        """Return the CRC32C of each MiB taken, and the SHA-256 of all where one is computed."""
        ...

    def commit(self) -> None:
        """Hand over what waits, and make the container appear where it is a path."""
        ...

    def discard(self) -> None:
        """Forget the container; remove what was made. Safe twice."""
        ...


def create_beside(path: Path, *, mode: int) -> tuple[int, Path]:
    """Create a file of another name in the folder of `path`, open for reading and writing."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(temporary, flags, mode), temporary


class StreamSink:
    """Appends to a stream that the caller opened, and will sync and close."""

    def __init__(self, stream: ByteStream, *, digest: bool) -> None:
        self.size = 0
        self._stream = stream
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._digest = BackgroundDigest() if digest else None
        self._blocks = BlockChecksums(BLOCK_SIZE)

    def write(self, *parts: bytes) -> None:
        """Append `parts`; small ones wait for each other."""
        size = 0
        for part in parts:
            size += len(part)
        self._waiting += parts
        self._waiting_size += size
        self.size += size
        if self._waiting_size >= BUFFER_SIZE:
            self._flush()

    def sha256(self) -> str:
        """Return the SHA-256 of all bytes taken, in hexadecimal.

        Raises:
            ValueError: made with `digest=False`.
        """
        if self._digest is None:
            raise ValueError("the writer was not told to compute a digest")
        self._flush()
        return self._digest.digest().hex()

    def checksums(self) -> tuple[tuple[int, ...], bytes | None]:
        """Return the CRC32C of each MiB taken, and the SHA-256 of all unless made with `digest=False`."""
        self._flush()
        return self._blocks.block_crc32c, None if self._digest is None else self._digest.digest()

    def commit(self) -> None:
        """Hand the stream everything; syncing it is the caller's."""
        self._flush()
        self._stream.flush()
        self._end_digest()

    def discard(self) -> None:
        """Drop what waits. What the stream has already is a container without a footer."""
        self._waiting.clear()
        self._waiting_size = 0
        self._end_digest()

    def _end_digest(self) -> None:
        if self._digest is not None:
            self._digest.close()

    def _flush(self) -> None:
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        if not waiting:
            return
        parts = _join_small(waiting)
        if self._digest is not None:
            self._digest.update(parts)
        for part in parts:
            self._blocks.update(part)
        self._hand_over(parts)

    def _hand_over(self, parts: list[bytes]) -> None:
        for part in parts:
            view = memoryview(part)
            while view:
                # A raw stream may take less than it is given, and None when it would block.
                taken = self._stream.write(view)
                if not taken:
                    raise BlockingIOError(f"stream took {taken!r} of {len(view)} bytes")
                view = view[taken:]


def _join_small(parts: list[bytes]) -> list[bytes]:
    """Return the same bytes in fewer parts, none of them empty; long ones stay as they are."""
    joined: list[bytes] = []
    small: list[bytes] = []
    for part in parts:
        if len(part) < JOINED_MAX:
            small.append(part)
            continue
        if small:
            joined.append(b"".join(small))
            small = []
        joined.append(part)
    if small:
        joined.append(b"".join(small))
    return joined if all(joined) else [part for part in joined if part]


class FileSink(StreamSink):
    """Writes beside the path, and gives the file its name once it is whole and on the device."""

    def __init__(self, path: Path, *, digest: bool, replace_existing: bool) -> None:
        if not replace_existing and path.exists():
            raise ContainerExistsError(f"{str(path)!r} exists")
        descriptor, self._temporary = create_beside(path, mode=0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._behind = WriteBehind(descriptor)
        self._path = path
        self._replace_existing = replace_existing
        super().__init__(self._file, digest=digest)

    def commit(self) -> None:
        """Make the container durable, then visible, then its name durable.

        Raises:
            ContainerExistsError: the path was taken meanwhile.
        """
        super().commit()
        self._behind.close()
        os.fsync(self._file.fileno())
        if self._replace_existing:
            self._temporary.replace(self._path)
        else:
            try:
                # Unlike rename, link never replaces.
                self._path.hardlink_to(self._temporary)
            except FileExistsError:
                raise ContainerExistsError(f"{str(self._path)!r} exists") from None
            self._temporary.unlink()
        self._file.close()
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove the unfinished file."""
        super().discard()
        # Nobody wants the bytes, so nobody asks whether they reached the device.
        with contextlib.suppress(OSError):
            self._behind.close()
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _hand_over(self, parts: list[bytes]) -> None:
        for low in range(0, len(parts), _PARTS_MAX):
            group: list[bytes | memoryview] = [*parts[low : low + _PARTS_MAX]]
            while group:
                taken = os.writev(self._file.fileno(), group)
                self._behind.wrote(taken)
                group = _rest(group, taken)


def _rest(parts: list[bytes | memoryview], taken: int) -> list[bytes | memoryview]:
    """Return what of `parts` stands behind the first `taken` bytes."""
    if taken == sum(map(len, parts)):
        return []
    for at, part in enumerate(parts):
        if taken < len(part):
            return [memoryview(part)[taken:], *parts[at + 1 :]]
        taken -= len(part)
    return []
