"""Where the files of a batch lie: together, page by page, without an object per look (DESIGN §6).

The rules are those of `Retriever`; what one page does not settle is left to it, file by file.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from des.cluster import Shards
from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import DesError
from des.files import BLOCK_SIZE
from des.format.frame import FRAME_HEADER_SIZE
from des.format.hash_pages import PagesGeometry, Unsettled, find_plain
from des.format.index import FLAG_COMPRESSED, FLAG_EXTERNAL, IndexEntry
from des.format.layout import Layout
from des.format.name_key import hash_of, name_digest
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.naming import consistent_hash, created_ms_of, parse_name
from des.retrieval.opened_file import ReadCost
from des.retrieval.spans import ahead
from des.retrieval.stored_containers import StoredContainers, pages_of
from des.retrieval.tombstones import Tombstones, file_deleted

LOOKS_AHEAD: Final = 16
"""Containers whose pages are read at once."""

_Record: TypeAlias = tuple[int, int, int, int]
"""Offset, length, flags and proof, as a page has them."""


class Frame(NamedTuple):
    """Where the frame of a wanted file lies."""

    start: int
    stop: int
    at: int
    flags: int
    meta_length: int
    name: bytes
    digest: bytes


class _Search(NamedTuple):
    """A name that may be in one of some containers."""

    at: int
    name: bytes
    digest: bytes
    shard: int
    rows: list[ContainerRow]
    """Not asked yet, in the order to ask them."""


@dataclass(slots=True)
class Places:
    """Where everything wanted lies. A place is a position in what was asked for."""

    failed: dict[int, DesError] = field(default_factory=dict)
    """By place: why a file cannot be read."""
    empty: list[tuple[int, OpenFile]] = field(default_factory=list)
    log: dict[int, list[tuple[int, int, OpenFile]]] = field(default_factory=dict)
    """By segment: offset, place, file."""
    frames: dict[str, tuple[ContainerRow, list[Frame]]] = field(default_factory=dict)
    """By container id."""
    shards: dict[int, int] = field(default_factory=dict)
    """Shards of the stored files, by place."""
    lone: list[int] = field(default_factory=list)
    """Places of what is opened one by one."""

    def fail(self, at: int, error: DesError) -> None:
        """Give a wanted file up."""
        self.failed[at] = error


class BatchPlaces:
    """Locates batches for the shards of one node."""

    def __init__(
        self,
        *,
        settings: Settings,
        open_index: OpenIndex,
        containers: StoredContainers,
        tombstones: Tombstones,
        absent: Callable[[str], DesError],
        shards: Shards | None = None,
    ) -> None:
        self._shards = shards
        self._bits = settings.shard_bits
        self._wrap_bits = settings.wrap_bits
        self._open_index = open_index
        self._containers = containers
        self._tombstones = tombstones
        self._absent = absent

    async def locate(self, names: Sequence[str], cost: ReadCost) -> Places:
        """Return where files lie; those that cannot be found are among the failed."""
        plan = Places()
        searched: list[_Search] = []
        get_open = self._open_index.get
        for at, name in enumerate(names):
            if self._shards is not None and not self._shards.owns(consistent_hash(name, self._bits)):
                plan.lone.append(at)  # other nodes' files are looked for one by one, and afresh
                continue
            file = get_open(name)
            if file is None:
                try:
                    searched.append(await self._search(at, name))
                except DesError as error:
                    plan.fail(at, error)
            elif file.offset:
                plan.log.setdefault(file.segment, []).append((file.offset, at, file))
            elif file.size:
                plan.lone.append(at)
            else:
                plan.empty.append((at, file))
        while searched:
            searched = await self._ask(searched, plan, cost)
        return plan

    async def _search(self, at: int, name: str) -> _Search:
        """Name the containers that may have a file.

        Raises:
            InvalidNameError: DES makes no such name.
            NotFoundError, UnavailableError: no container may have it.
        """
        raw = name.encode()
        digest = name_digest(raw)
        shard = int.from_bytes(digest[:8], "big") >> (64 - self._bits)
        day = name[-26:-18]
        rows = self._containers.known_rows(day, shard, bits=self._bits)
        deleted_ms = self._tombstones.known(name, day, shard, bits=self._bits)
        if rows is None or deleted_ms is None:
            day = parse_name(name).day
            rows = await self._containers.rows(day, shard, bits=self._bits)
            deleted_ms = await self._tombstones.deleted_ms(name, day, shard, bits=self._bits)
        if deleted_ms:
            raise file_deleted(name, deleted_ms)
        try:
            time_ms = created_ms_of(name, self._wrap_bits)
        except ValueError:
            time_ms = -1
        asked = [row for row in rows if row.name_ms_first <= time_ms <= row.name_ms_last]
        if not asked:
            parse_name(name)
            raise self._absent(name)
        return _Search(at, raw, digest, shard, asked)

    async def _ask(self, searched: Iterable[_Search], plan: Places, cost: ReadCost) -> list[_Search]:
        """Look each name up in the first of its containers; return those to go on with."""
        by_row: dict[str, tuple[ContainerRow, list[_Search]]] = {}
        for search in searched:
            row = search.rows[0]
            by_row.setdefault(row.container_id, (row, []))[1].append(search)
        going_on: list[_Search] = []
        looks: list[tuple[ContainerRow, PagesGeometry, list[_Search]]] = []
        for row, searches in by_row.values():
            pages = pages_of(row)
            if pages is None or Layout(row.layout) is not Layout.FRAMED:
                plan.lone += [search.at for search in searches]
                continue
            looks.append((row, pages, searches))

        async def look(
            row: ContainerRow, pages: PagesGeometry, searches: list[_Search]
        ) -> tuple[ContainerRow, list[_Search], list[_Record | Unsettled] | DesError]:
            try:
                return row, searches, await self._look_up(row, pages, searches, cost)
            except DesError as error:
                return row, searches, error

        async for row, searches, found in ahead((look(*each) for each in looks), LOOKS_AHEAD):
            if isinstance(found, DesError):
                for search in searches:
                    plan.fail(search.at, found)
                continue
            for search, record in zip(searches, found, strict=True):
                if record is Unsettled.ABSENT:
                    if len(search.rows) > 1:
                        going_on.append(search._replace(rows=search.rows[1:]))
                    else:
                        plan.fail(search.at, self._not_found(search.name.decode()))
                elif isinstance(record, Unsettled) or not _add_frame(plan, row, search, record):
                    plan.lone.append(search.at)
        return going_on

    async def _look_up(
        self, row: ContainerRow, pages: PagesGeometry, searches: Sequence[_Search], cost: ReadCost
    ) -> list[_Record | Unsettled]:
        """Return each name's record in a container.

        Raises:
            CorruptError, UnavailableError: a page could not be read.
        """
        numbers = [hash_of(search.digest) * pages.page_count >> 64 for search in searches]
        held = await self._containers.pages(row, set(numbers), cost)
        found: list[_Record | Unsettled] = [
            find_plain(held[number], search.digest) for search, number in zip(searches, numbers, strict=True)
        ]
        spilt = {at: numbers[at] + 1 for at, record in enumerate(found) if record is Unsettled.NEXT_PAGE}
        if not spilt:
            return found
        last = pages.written_count - 1
        following = await self._containers.pages(row, {n for n in spilt.values() if n <= last}, cost)
        for at, number in spilt.items():
            page = following.get(number)
            record = Unsettled.ABSENT if page is None else find_plain(page, searches[at].digest)
            found[at] = Unsettled.ABSENT if record is Unsettled.NEXT_PAGE else record
        return found

    def _not_found(self, name: str) -> DesError:
        try:
            parse_name(name)
        except DesError as error:
            return error
        return self._absent(name)


def _add_frame(plan: Places, row: ContainerRow, search: _Search, record: _Record) -> bool:
    """Note where a file's frame lies; False where it is not read that way, or lies where none can."""
    start, length, flags, meta_length = record
    stop = start + FRAME_HEADER_SIZE + length + len(search.name) + meta_length
    data_start = row.geometry.data_start
    if (
        flags & ~FLAG_COMPRESSED
        or (not flags and length > BLOCK_SIZE)
        or not data_start <= start < stop <= data_start + row.geometry.data_length
    ):
        return False
    plan.shards[search.at] = search.shard
    frames = plan.frames.get(row.container_id)
    if frames is None:
        frames = plan.frames[row.container_id] = (row, [])
    frames[1].append(Frame(start, stop, search.at, flags, meta_length, search.name, search.digest))
    return True


def entry_of(frame: Frame) -> IndexEntry:
    """Return the entry that INDEX has for a frame's file."""
    data_start = frame.start + FRAME_HEADER_SIZE
    meta_start = frame.stop - frame.meta_length
    return IndexEntry(
        name=frame.name.decode(),
        data_offset=0 if frame.flags & FLAG_EXTERNAL else data_start,
        data_length=meta_start - len(frame.name) - data_start,
        meta_offset=meta_start,
        meta_length=frame.meta_length,
        flags=frame.flags,
    )
