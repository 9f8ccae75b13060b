"""Where the files of a batch lie: together, page by page, without an object per look (DESIGN §6).

The rules are those of `Retriever`; what one page does not settle is left to it, file by file.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from des.cluster import Shards
from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import DesError
from des.files import BLOCK_SIZE
from des.format.frame import FRAME_HEADER_SIZE
from des.format.hash_pages import PagesGeometry, PlainRecord, Unsettled, find_many_plain, find_plain
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


LogPlace: TypeAlias = tuple[int, int, int, OpenFile]
"""First byte in the segment, one past the last, place in what was asked for, the file."""


class Frame(NamedTuple):
    """Where the frame of a wanted file lies."""

    start: int
    stop: int
    at: int
    flags: int
    meta_length: int
    name: bytes
    digest: bytes
    shard: int
    created_ms: int


_Search: TypeAlias = tuple[int, bytes, bytes, int, int, list[ContainerRow]]
"""A name that may be in one of some containers: place, name, its digest, shard, time in the name, and the
containers not asked yet, in the order to ask them."""


class _Bucket(NamedTuple):
    """What is known of the stored files of one shard on one day; good until something is awaited."""

    rows: list[ContainerRow]
    first_ms: int
    last_ms: int
    """Every row may have a name made from the one to the other."""
    deleted: Mapping[str, int]


@dataclass(slots=True)
class Places:
    """Where everything wanted lies. A place is a position in what was asked for."""

    failed: dict[int, DesError] = field(default_factory=dict)
    """By place: why a file cannot be read."""
    empty: list[tuple[int, OpenFile]] = field(default_factory=list)
    log: dict[int, list[LogPlace]] = field(default_factory=dict)
    """By segment."""
    frames: dict[str, tuple[ContainerRow, list[Frame]]] = field(default_factory=dict)
    """By container id."""
    lone: list[int] = field(default_factory=list)
    """Places of what is opened one by one."""


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
        leave: Callable[[str], None],
        shards: Shards | None = None,
    ) -> None:
        self._shards = shards
        self._bits = settings.shard_bits
        self._wrap_bits = settings.wrap_bits
        self._open_index = open_index
        self._containers = containers
        self._tombstones = tombstones
        self._absent = absent
        self._leave = leave

    async def locate(self, names: Sequence[str], cost: ReadCost) -> Places:
        """Return where files lie; those that cannot be found are among the failed."""
        plan = Places()
        searched: list[_Search] = []
        buckets: dict[tuple[str, int], _Bucket] = {}
        get_open = self._open_index.get
        deleted_now = self._tombstones.fresh
        bits, wrap_bits = self._bits, self._wrap_bits
        for at, name in enumerate(names):
            if self._shards is not None and not self._shards.owns(consistent_hash(name, bits)):
                try:
                    if len(names) > 1:
                        self._leave(name)
                except DesError as error:
                    plan.failed[at] = error
                else:
                    plan.lone.append(at)  # other nodes' files are looked for one by one, and afresh
                continue
            file = get_open(name)
            if file is not None:
                if file.offset:
                    place = (file.offset, file.offset + file.size, at, file)
                    plan.log.setdefault(file.segment, []).append(place)
                elif file.size:
                    plan.lone.append(at)
                else:
                    plan.empty.append((at, file))
                continue
            raw = name.encode()
            digest = name_digest(raw)
            shard = int.from_bytes(digest[:8]) >> 64 - bits
            day = name[-26:-18]
            bucket = buckets.get((day, shard))
            try:
                if bucket is None:
                    bucket = self._known(day, shard)
                    if bucket is None:
                        buckets.clear()
                        bucket = await self._load(name, shard)
                    buckets[day, shard] = bucket
                rows, first_ms, last_ms, deleted = bucket
                if name in deleted or name in deleted_now:
                    raise file_deleted(name, deleted_now.get(name) or deleted[name])
                created_ms = created_ms_of(name, wrap_bits)
            except ValueError:
                self._note_absent(at, name, plan)  # no name of DES has such a time
            except DesError as error:
                plan.failed[at] = error
            else:
                if not first_ms <= created_ms <= last_ms:
                    rows = [row for row in rows if row.name_ms_first <= created_ms <= row.name_ms_last]
                if rows:
                    searched.append((at, raw, digest, shard, created_ms, rows))
                else:
                    self._note_absent(at, name, plan)
        while searched:
            searched = await self._ask(searched, plan, cost)
        return plan

    def _known(self, day: str, shard: int) -> _Bucket | None:
        """Return what is known without asking the catalog; None where that is not enough."""
        rows = self._containers.known_rows(day, shard, bits=self._bits)
        deleted = self._tombstones.known_in(day, shard, bits=self._bits)
        return None if rows is None or deleted is None else _bucket(rows, deleted)

    async def _load(self, name: str, shard: int) -> _Bucket:
        """Ask the catalog about the day and shard of a name.

        Raises:
            InvalidNameError: DES makes no such name.
            UnavailableError: the catalog did not answer.
        """
        day = parse_name(name).day
        rows = await self._containers.rows(day, shard, bits=self._bits)
        return _bucket(rows, await self._tombstones.of_shard(day, shard, bits=self._bits))

    async def _ask(self, searched: Iterable[_Search], plan: Places, cost: ReadCost) -> list[_Search]:
        """Look each name up in the first of its containers; return those to go on with."""
        by_row: dict[str, tuple[ContainerRow, list[_Search]]] = {}
        for search in searched:
            row = search[-1][0]
            group = by_row.get(row.container_id)
            if group is None:
                group = by_row[row.container_id] = (row, [])
            group[1].append(search)
        looks: list[tuple[ContainerRow, PagesGeometry, list[_Search]]] = []
        for row, searches in by_row.values():
            pages = pages_of(row)
            if pages is None or Layout(row.layout) is not Layout.FRAMED:
                plan.lone += [search[0] for search in searches]
                continue
            looks.append((row, pages, searches))

        async def look(
            row: ContainerRow, pages: PagesGeometry, searches: list[_Search]
        ) -> tuple[ContainerRow, list[_Search], list[PlainRecord | Unsettled] | DesError]:
            try:
                return row, searches, await self._look_up(row, pages, searches, cost)
            except DesError as error:
                return row, searches, error

        going_on: list[_Search] = []
        async for row, searches, found in ahead((look(*each) for each in looks), LOOKS_AHEAD):
            if isinstance(found, DesError):
                for search in searches:
                    plan.failed[search[0]] = found
            else:
                going_on += self._note(row, searches, found, plan)
        return going_on

    async def _look_up(
        self, row: ContainerRow, pages: PagesGeometry, searches: Sequence[_Search], cost: ReadCost
    ) -> list[PlainRecord | Unsettled]:
        """Return each name's record in a container.

        Raises:
            CorruptError, UnavailableError: a page could not be read.
        """
        count = pages.page_count
        numbers = [hash_of(digest) * count >> 64 for _, _, digest, _, _, _ in searches]
        asked: dict[int, list[int]] = {}
        for at, number in enumerate(numbers):
            if number in asked:
                asked[number].append(at)
            else:
                asked[number] = [at]
        held = await self._containers.pages(row, asked, cost)
        found: list[PlainRecord | Unsettled] = [Unsettled.ABSENT] * len(searches)
        for number, places in asked.items():
            records = find_many_plain(held[number], [searches[at][2] for at in places])
            for at, record in zip(places, records, strict=True):
                found[at] = record
        spilt = {at: numbers[at] + 1 for at, record in enumerate(found) if record is Unsettled.NEXT_PAGE}
        if not spilt:
            return found
        last = pages.written_count - 1
        following = await self._containers.pages(row, {n for n in spilt.values() if n <= last}, cost)
        for at, number in spilt.items():
            page = following.get(number)
            record = Unsettled.ABSENT if page is None else find_plain(page, searches[at][2])
            found[at] = Unsettled.ABSENT if record is Unsettled.NEXT_PAGE else record
        return found

    def _note(
        self,
        row: ContainerRow,
        searches: Sequence[_Search],
        found: Sequence[PlainRecord | Unsettled],
        plan: Places,
    ) -> list[_Search]:
        """Note where the files of a container lie; return those to look for in the next one."""
        going_on: list[_Search] = []
        frames: list[Frame] = []
        data_start = row.geometry.data_start
        data_stop = data_start + row.geometry.data_length
        for (at, name, digest, shard, created_ms, rows), record in zip(searches, found, strict=True):
            if isinstance(record, Unsettled):
                if record is not Unsettled.ABSENT:
                    plan.lone.append(at)
                elif len(rows) > 1:
                    going_on.append((at, name, digest, shard, created_ms, rows[1:]))
                else:
                    self._note_absent(at, name.decode(), plan)
                continue
            start, length, flags, meta_length = record
            stop = start + FRAME_HEADER_SIZE + length + len(name) + meta_length
            if (
                flags & ~FLAG_COMPRESSED
                or (not flags and length > BLOCK_SIZE)
                or not data_start <= start < stop <= data_stop
            ):
                plan.lone.append(at)  # not read that way, or lies where no file can
                continue
            frame = (start, stop, at, flags, meta_length, name, digest, shard, created_ms)
            frames.append(tuple.__new__(Frame, frame))
        if frames:
            plan.frames[row.container_id] = (row, plan.frames.get(row.container_id, (row, []))[1] + frames)
        return going_on

    def _note_absent(self, at: int, name: str, plan: Places) -> None:
        """Note that a file was not found, unless it came to this node's log while it was looked for.

        One that is brought home is in the log before its absence can be told: so this looks once more, last.
        """
        plan.failed[at] = self._not_found(name)
        if self._open_index.get(name) is not None:
            del plan.failed[at]
            plan.lone.append(at)

    def _not_found(self, name: str) -> DesError:
        try:
            parse_name(name)
        except DesError as error:
            return error
        return self._absent(name)


def _bucket(rows: list[ContainerRow], deleted: Mapping[str, int]) -> _Bucket:
    first_ms = max((row.name_ms_first for row in rows), default=0)
    last_ms = min((row.name_ms_last for row in rows), default=0)
    return _Bucket(rows, first_ms, last_ms, deleted)


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
