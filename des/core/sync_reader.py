"""The same reader of containers in an object store, for code without an event loop."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from des.core.container_index import ContainerIndex
from des.core.file_view import StoredFile
from des.core.loop_thread import LoopThread
from des.core.s3_reader import S3DesReader
from des.format.index import IndexEntry
from des.format.metadata import Metadata

T = TypeVar("T")

TAKEN_MAX: Final = 32
"""Items of an iteration handed over between threads at once."""
TAKEN_BYTES: Final = 1 << 20
"""Bytes of files in them after which no more are taken."""


class SyncS3DesReader:
    """One container in an object store; every method waits. Safe for threads.

    Takes what `S3DesReader` takes. Requests run on an event loop of its own, in a thread that ends with
    `close`, so the object store must not be bound to another loop.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._reader: Final = S3DesReader(*arguments, **options)
        self._loop: Final = LoopThread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._wait(self._reader.contains(name))

    def __iter__(self) -> Iterator[StoredFile]:
        """Yield every file's entry and metadata, in the order they were written. As of `S3DesReader`."""
        return self._iterate(aiter(self._reader), lambda _file: 0)

    @property
    def requests(self) -> int:
        """Requests made so far."""
        return self._reader.cost.requests

    def close(self) -> None:
        """End the thread. Twice is once."""
        self._loop.close()

    def get_index(self) -> ContainerIndex:
        """Return INDEX, whole and proven. As `S3DesReader.get_index`."""
        return self._wait(self._reader.get_index())

    def get_file(self, name: str) -> bytes:
        """Return a file, whole and verified. As `S3DesReader.get_file`."""
        return self._wait(self._reader.get_file(name))

    def get_files_batch(self, names: Iterable[str], **options: Any) -> dict[str, bytes]:
        """Return many files by name. As `S3DesReader.get_files_batch`."""
        return self._wait(self._reader.get_files_batch(names, **options))

    def get_range(self, name: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return a part of a file, verified. As `S3DesReader.get_range`."""
        return self._wait(self._reader.get_range(name, offset, limit))

    def get_meta(self, name: str) -> Metadata:
        """Return a file's metadata. As `S3DesReader.get_meta`."""
        return self._wait(self._reader.get_meta(name))

    def stat(self, name: str) -> StoredFile:
        """Return everything known of a file but its bytes. As `S3DesReader.stat`."""
        return self._wait(self._reader.stat(name))

    def list_files(self, prefix: str = "", start_after: str = "", limit: int | None = None) -> list[str]:
        """Return a page of names. As `S3DesReader.list_files`."""
        return self._wait(self._reader.list_files(prefix, start_after, limit))

    def read_all(self) -> Iterator[tuple[StoredFile, bytes]]:
        """Yield every file with its bytes, in the order they were written. As `S3DesReader.read_all`."""
        return self._iterate(self._reader.read_all(), lambda found: len(found[1]))

    def find(self, name: str) -> IndexEntry | None:
        """Return the entry of `name`. As `S3DesReader.find`."""
        return self._wait(self._reader.find(name))

    def load_filter(self) -> None:
        """Keep FILTER. As `S3DesReader.load_filter`."""
        self._wait(self._reader.load_filter())

    def _iterate(self, source: AsyncIterator[T], weigh: Callable[[T], int]) -> Iterator[T]:
        """Yield what `source` yields, some at a time: each hand-over between threads takes about 50 us."""
        done = False
        try:
            while not done:
                taken, done = self._wait(_take(source, weigh))
                yield from taken
        finally:
            if not done and not self._loop.is_closed:
                self._wait(_close(source))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.wait(work)


async def _take(source: AsyncIterator[T], weigh: Callable[[T], int]) -> tuple[list[T], bool]:
    """Return the next items, and whether they are the last."""
    taken: list[T] = []
    size = 0
    async for item in source:
        taken.append(item)
        size += weigh(item)
        if len(taken) == TAKEN_MAX or size >= TAKEN_BYTES:
            return taken, False
    return taken, True


async def _close(source: AsyncIterator[Any]) -> None:
    """Let a generator give back what it holds."""
    if isinstance(source, AsyncGenerator):
        await source.aclose()
