"""Files that are read where the reader looks, range by range."""

import io
import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from des_client.errors import InvalidArgument
from des_client.types import FileInfo

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES: Final = 256 << 10
"""How much one read fetches at least."""


class RawFileReader(io.RawIOBase):
    """Reads straight from the store: every `readinto` is a call."""

    def __init__(self, info: FileInfo, fetch: Callable[[int, int], bytes]) -> None:
        """Wrap `fetch(offset, limit)`."""
        super().__init__()
        self.info = info
        self._fetch = fetch
        self._position = 0

    @property
    def name(self) -> str:
        """The file's name in the store."""
        return self.info.name

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position of the next read."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move; past the end is allowed and reads nothing there."""
        self._check_open()
        self._position = sought(offset, whence, self._position, self.info.size_bytes)
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read up to the buffer's length in one call; none at the end of the file."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read the rest in one call."""
        self._check_open()
        return self._read(self.info.size_bytes)

    def _read(self, size: int) -> bytes:
        size = min(size, self.info.size_bytes - self._position)
        if size <= 0:
            return b""
        data = self._fetch(self._position, size)
        self._position += len(data)
        return data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class FileReader(io.BufferedReader):
    """A stored file, open for reading; what `DesClient.open` returns."""

    raw: RawFileReader

    def __init__(self, raw: RawFileReader, buffer_bytes: int = BUFFER_BYTES) -> None:
        super().__init__(raw, buffer_bytes)

    @property
    def info(self) -> FileInfo:
        """The file, as it was when it was opened; content and size never change."""
        return self.raw.info


class AsyncFileReader:
    """A stored file, open for reading from asyncio code; what `AsyncDesClient.open` returns.

    One task at a time: reads move a common position.
    """

    def __init__(
        self, info: FileInfo, fetch: Callable[[int, int], Awaitable[bytes]], buffer_bytes: int = BUFFER_BYTES
    ) -> None:
        """Wrap `fetch(offset, limit)`."""
        if buffer_bytes < 1:
            raise InvalidArgument(f"buffer_bytes is {buffer_bytes}, expected at least 1")
        self.info = info
        self._fetch = fetch
        self._buffer_bytes = buffer_bytes
        self._position = 0
        self._held = b""
        self._held_start = 0
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def name(self) -> str:
        """The file's name in the store."""
        return self.info.name

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def close(self) -> None:
        """Drop the buffer; later reads raise ValueError."""
        self._closed = True
        self._held = b""

    def tell(self) -> int:
        """Position of the next read."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, without a call; past the end is allowed and reads nothing there."""
        self._check_open()
        self._position = sought(offset, whence, self._position, self.info.size_bytes)
        return self._position

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, or all that are left when it is negative or None; fewer only at the end."""
        self._check_open()
        left = max(0, self.info.size_bytes - self._position)
        size = left if size is None or size < 0 else min(size, left)
        start = self._position - self._held_start
        ready = self._held[start : start + size] if 0 <= start < len(self._held) else b""
        missing = size - len(ready)
        if not missing:
            self._position += size
            return ready
        offset = self._position + len(ready)
        fetched = await self._fetch(offset, min(max(missing, self._buffer_bytes), left - len(ready)))
        self._position += size
        if len(fetched) == missing:
            return ready + fetched if ready else fetched
        self._held, self._held_start = fetched, offset
        return ready + fetched[:missing]

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file")


def sought(offset: int, whence: int, position: int, size: int) -> int:
    """Compute a new position.

    Raises:
        ValueError: before the first byte, or an unknown `whence`.
    """
    base = {os.SEEK_SET: 0, os.SEEK_CUR: position, os.SEEK_END: size}.get(whence)
    if base is None:
        raise ValueError(f"whence is {whence}, expected 0, 1 or 2")
    if base + offset < 0:
        raise ValueError(f"position would be {base + offset}, expected at least 0")
    return base + offset
