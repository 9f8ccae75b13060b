"""Pages of HASHPAGES, and groups of INDEX and META, kept for the next read, in memory."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from des.core.single_flight import SingleFlight

BYTES_MAX: Final = 64 << 20
"""Bytes of pages kept by default: those of about 1.9 million files."""
ENTRY_OVERHEAD: Final = 400
"""Bytes a kept page costs beside its own, as measured: key, dictionary, object headers."""

_SEAL_SIZE: Final = 4
_ZEROS_SIZE: Final = 2
_ZEROS_MAX: Final = (1 << 8 * _ZEROS_SIZE) - 1


class PageKind(StrEnum):
    """What is kept of a container."""

    PAGE = "page"
    """A page of HASHPAGES."""
    INDEX = "index"
    """A group of INDEX."""
    META = "meta"
    """The metadata of a group of a v1 container, one after the other."""

    __hash__ = str.__hash__  # the one of enumerations is no C, and a batch looks up thousands of pages


class PageKey(NamedTuple):
    """Which page, or group, of which object."""

    container: bytes
    """The container's id, 16 bytes."""
    etag: str
    """The object's etag: another object under the same id is another key."""
    page: int
    """Its number."""
    kind: PageKind = PageKind.PAGE


Pages: TypeAlias = Mapping[PageKey, bytes]
LoadPages: TypeAlias = Callable[[], Coroutine[Any, Any, Pages]]
ValidPage: TypeAlias = Callable[[PageKey, bytes], bool]


class IndexCache(Protocol):
    """Remembers pages. What it gives back is never trusted: a page that is not valid is a miss."""

    async def fetch(self, key: PageKey, load: LoadPages, valid: ValidPage) -> bytes:
        """Return the page of `key`, from the cache or by `load`.

        Args:
            key: which page.
            load: reads it, and perhaps neighbours, from the object store, all proven; its errors come
                through.
            valid: whether bytes are the page of a key.
        """
        ...

    def peek(self, key: PageKey) -> bytes | None:
        """Return the page of `key` if this process has it, and had it proven; waits for nobody."""
        ...

    async def close(self) -> None:
        """Give back what is held."""
        ...


class InMemoryIndexCache:
    """Keeps pages in this process, the least recently used ones going first."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self.bytes_max: Final = bytes_max
        """Bytes that pages and their bookkeeping may take."""
        self.bytes = 0
        """Bytes they take."""
        self.hits = 0
        self.misses = 0
        self._pages: OrderedDict[PageKey, bytes] = OrderedDict()
        self._flights: SingleFlight[Pages] = SingleFlight()

    def __len__(self) -> int:
        return len(self._pages)

    async def fetch(self, key: PageKey, load: LoadPages, valid: ValidPage) -> bytes:
        """Return the page of `key`; callers who miss it together load it once."""
        kept = self._pages.get(key)
        if kept is not None:
            page = _unfolded(kept)
            if valid(key, page):
                self.hits += 1
                self._pages.move_to_end(key)
                return page
            self._drop(key)
        self.misses += 1
        return (await self._flights.run(key, lambda: self._load(load)))[key]

    def peek(self, key: PageKey) -> bytes | None:
        """Return the page of `key` if it is here: it was proven when it came, and is this process's own."""
        kept = self._pages.get(key)
        if kept is None:
            return None
        self.hits += 1
        self._pages.move_to_end(key)
        return _unfolded(kept)

    async def close(self) -> None:
        """Forget everything."""
        self._pages.clear()
        self.bytes = 0

    async def _load(self, load: Callable[[], Awaitable[Pages]]) -> Pages:
        pages = await load()
        for key, page in pages.items():
            self._drop(key)
            kept = self._pages[key] = _folded(page)
            self.bytes += len(kept) + ENTRY_OVERHEAD
        while self.bytes > self.bytes_max and self._pages:
            self._drop(next(iter(self._pages)))
        return pages

    def _drop(self, key: PageKey) -> None:
        kept = self._pages.pop(key, None)
        if kept is not None:
            self.bytes -= len(kept) + ENTRY_OVERHEAD


def _folded(page: bytes) -> bytes:
    """Return a page without the zeros before its checksum, and how many they were: a tenth of most pages.

    >>> _unfolded(_folded(b"records" + bytes(300) + b"seal")) == b"records" + bytes(300) + b"seal"
    True
    """
    body, seal = page[:-_SEAL_SIZE], page[-_SEAL_SIZE:]
    shortened = body.rstrip(b"\0")
    zeros = len(body) - len(shortened)
    if zeros > _ZEROS_MAX:
        shortened, zeros = body, 0
    return shortened + seal + zeros.to_bytes(_ZEROS_SIZE, "little")


def _unfolded(kept: bytes) -> bytes:
    zeros = int.from_bytes(kept[-_ZEROS_SIZE:], "little")
    if not zeros:
        return kept[:-_ZEROS_SIZE]
    seal_start = -_ZEROS_SIZE - _SEAL_SIZE
    return kept[:seal_start] + bytes(zeros) + kept[seal_start:-_ZEROS_SIZE]
