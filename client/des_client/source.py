"""Where an upload's bytes come from, and whether they can be read a second time."""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Final, Protocol, TypeAlias, cast

from des_client.errors import InvalidArgument, UploadInterrupted

REPLAY_BYTES_MAX: Final = 8 << 20
"""How much of a source that can be read only once is kept, so that an early failure costs nothing."""

Data: TypeAlias = bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | Iterable[bytes]
"""What `put` takes: bytes, a path, a binary file from its present position, or pieces of any length."""


class Source(Protocol):
    """A file's content, cut into pieces of a wanted length."""

    size: int | None
    """Length; None while unknown."""
    blocking: bool
    """Whether reading may block on anything but memory."""
    rereadable: bool
    """Whether any part can be read again."""

    def whole(self, size_max: int) -> bytes | None:
        """Return all of the content if it is no longer than `size_max`, else None."""
        ...

    def chunks(self, size: int, start: int = 0) -> Iterator[bytes]:
        """Read from byte `start` on: pieces of `size` bytes, the last one shorter.

        Only a source that is `rereadable` starts elsewhere than at the first byte.

        Raises:
            UploadInterrupted: the source was read before and cannot be read again.
        """
        ...

    def close(self) -> None:
        """Give back what was opened for this upload."""
        ...


class Rechunker:
    """Pieces of any length in, pieces of one length out."""

    __slots__ = ("_held", "_held_bytes", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[bytes | memoryview] = []
        self._held_bytes = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take a piece; return the full chunks it completes."""
        if not self._held and len(piece) == self._size:
            yield piece
            return
        start = 0
        view = memoryview(piece)
        while self._held_bytes + len(piece) - start >= self._size:
            stop = start + self._size - self._held_bytes
            self._held.append(view[start:stop])
            yield self.rest()
            start = stop
        if start < len(piece):
            self._held.append(view[start:])
            self._held_bytes += len(piece) - start

    def rest(self) -> bytes:
        """Return what is held, and hold nothing."""
        rest = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return rest


class MemorySource:
    """Bytes in memory. They must not change while the call runs."""

    blocking = False
    rereadable = True

    def __init__(self, content: bytes | memoryview) -> None:
        self._content = content
        self.size: int | None = len(content)

    def whole(self, size_max: int) -> bytes | None:
        """Return the bytes themselves where they are `bytes`."""
        return bytes(self._content) if len(self._content) <= size_max else None

    def chunks(self, size: int, start: int = 0) -> Iterator[bytes]:
        """Copy piece by piece: a message owns its bytes."""
        view = memoryview(self._content)
        for at in range(start, len(view), size):
            yield bytes(view[at : at + size])

    def close(self) -> None:
        """Release a borrowed buffer, so that its owner may resize it again."""
        if isinstance(self._content, memoryview):
            self._content.release()


class SeekableSource:
    """A binary file from where it stands to its end."""

    blocking = True
    rereadable = True

    def __init__(self, file: BinaryIO, *, owned: bool) -> None:
        self._file = file
        self._owned = owned
        self._start = file.tell()
        self.size: int | None = max(0, file.seek(0, os.SEEK_END) - self._start)
        file.seek(self._start)

    def whole(self, size_max: int) -> bytes | None:
        """Read a small file."""
        if self.size is None or self.size > size_max:
            return None
        return b"".join(self.chunks(max(1, self.size)))

    def chunks(self, size: int, start: int = 0) -> Iterator[bytes]:
        """Go back to the wanted position and read to the end."""
        self._file.seek(self._start + start)
        return _rechunk(_pieces(self._file, size), size)

    def close(self) -> None:
        """Close the file if this source opened it."""
        if self._owned:
            self._file.close()


class OnceSource:
    """Pieces that come once. The first `REPLAY_BYTES_MAX` bytes are kept for a second attempt."""

    blocking = True
    rereadable = False

    def __init__(self, pieces: Iterator[bytes], size: int | None, file: BinaryIO | None = None) -> None:
        self._pieces = pieces
        self._file = file
        self._kept = Kept()
        self.size = size

    def whole(self, size_max: int) -> bytes | None:
        """Read ahead until the end or past `size_max`; what was read is kept for `chunks`."""
        kept = self._kept
        while kept.size <= size_max and kept.replayable:
            piece = next(self._pieces, None)
            if piece is None:
                return b"".join(kept.pieces)
            kept.add(as_bytes(piece))
        return None

    def chunks(self, size: int, start: int = 0) -> Iterator[bytes]:
        """Give the kept pieces first, then those that were never read."""
        assert start == 0
        self._kept.start()
        return _rechunk(self._all(), size)

    def _all(self) -> Iterator[bytes]:
        kept = self._kept
        yield from kept.take()
        for piece in self._pieces:
            content = as_bytes(piece)
            kept.add(content)
            yield content

    def close(self) -> None:
        """Close the file, when this source opened one."""
        if self._file is not None:
            self._file.close()


class Kept:
    """The beginning of a source that comes once, for as long as it is short enough to keep."""

    __slots__ = ("pieces", "replayable", "size", "started")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.replayable = True
        self.started = False

    def add(self, piece: bytes) -> None:
        """Count a piece just read, and keep it if there is room."""
        self.size += len(piece)
        if not self.started or (self.replayable and self.size <= REPLAY_BYTES_MAX):
            self.pieces.append(piece)
        else:
            self.replayable = False
            self.pieces.clear()

    def start(self) -> None:
        """Begin an attempt.

        Raises:
            UploadInterrupted: an earlier attempt went past what is kept.
        """
        if not self.replayable:
            raise UploadInterrupted(
                f"upload failed after {self.size} bytes were read from a source that cannot be read again: "
                f"it is not seekable, and only {REPLAY_BYTES_MAX} bytes are kept"
            )
        self.started = True

    def take(self) -> Iterator[bytes]:
        """Give the kept pieces; drop them along the way once they are more than may be kept."""
        yield from list(self.pieces)
        if self.size > REPLAY_BYTES_MAX:
            self.replayable = False
            self.pieces.clear()


def open_source(data: Data, size: int | None) -> Source:
    """Wrap whatever `put` was given.

    Args:
        data: the content.
        size: its length as the caller knows it; checked where the source knows better.

    Raises:
        InvalidArgument: `size` is negative, or not the length of `data`.
        OSError: the path cannot be opened.
        TypeError: `data` is nothing that bytes can be read from.
    """
    if size is not None and size < 0:
        raise InvalidArgument(f"size is {size}, expected at least 0", reason="INVALID_FIELD")
    source = _open(data, size)
    if size is not None and source.size != size:
        source.close()
        raise InvalidArgument(
            f"the source holds {source.size} bytes, size says {size}", reason="UPLOAD_SIZE_MISMATCH"
        )
    return source


def _open(data: Data, size: int | None) -> Source:
    if isinstance(data, bytes):
        return MemorySource(data)
    if isinstance(data, bytearray | memoryview):
        return MemorySource(_flat(memoryview(data)))
    if type(data) is io.BytesIO:
        rest = _flat(data.getbuffer()[data.tell() :])
        data.seek(0, os.SEEK_END)
        return MemorySource(rest)
    if isinstance(data, str):
        raise TypeError("data is a str: pass pathlib.Path(...) for a file, or text.encode() for its bytes")
    if isinstance(data, os.PathLike):
        file = cast("BinaryIO", open(data, "rb"))  # noqa: SIM115, PTH123  closed by the source; any PathLike
        try:
            return _open_file(file, size, owned=True)
        except BaseException:
            file.close()
            raise
    if hasattr(data, "read"):
        return _open_file(cast("BinaryIO", data), size, owned=False)
    if isinstance(data, Sequence):
        return MemorySource(b"".join(map(as_bytes, data)))
    if isinstance(data, Iterable):
        return OnceSource(iter(data), size)
    raise TypeError(f"cannot read bytes from {type(data).__name__!r}")


def _open_file(file: BinaryIO, size: int | None, *, owned: bool) -> Source:
    if isinstance(file, io.TextIOBase):
        raise TypeError("data is a file opened in text mode, expected mode 'rb'")
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        return SeekableSource(file, owned=owned)
    return OnceSource(_pieces(file, 1 << 20), size, file if owned else None)


def _flat(view: memoryview) -> bytes | memoryview:
    return view.cast("B") if view.c_contiguous else view.tobytes()


def as_bytes(piece: object) -> bytes:
    """Return what a source gave, as bytes that nobody else can change.

    Raises:
        TypeError: it gave something else, text for example.
    """
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"the source gave {type(piece).__name__!r}, expected bytes")


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while piece := file.read(size):
        yield as_bytes(piece)
    if piece is None:
        raise BlockingIOError("the file is in non-blocking mode and has no bytes now")


def _rechunk(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    rechunker = Rechunker(size)
    for piece in pieces:
        yield from rechunker.feed(piece)
    if rest := rechunker.rest():
        yield rest
