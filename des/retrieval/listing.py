"""Lists names, day by day, each day in the order of names (docs/adr/0009).

A page merges, name by name, the open files of the day, NAMES of each container that may have names of it,
and the tombstones. It costs about one block of NAMES for each of these containers, whatever the number
of files, and its end is a name: data that grow or move into a container change nothing about where the
next page begins.
"""

import asyncio
import heapq
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple

from des.config import Settings
from des.db.catalog import Catalog, ContainerRow, ContainerState
from des.files import FileInfo, FileState
from des.ingest.open_index import OpenIndex
from des.naming import consistent_hash, created_ms_of
from des.naming.name import DAY_MS, day_start_ms
from des.retrieval.name_bounds import candidates, count_together
from des.retrieval.opened_file import ReadCost
from des.retrieval.stored_containers import StoredContainers
from des.retrieval.tombstones import Tombstones

RUN_NAMES: Final = 512
"""Names in a block of NAMES; as many blocks of a container are read at once as the page may need."""
RUN_BLOCKS_MAX: Final = 4
RUNS_KEPT: Final = 1024
"""Runs of names kept for the next page, about 40 KB each."""
RUNS_AT_ONCE: Final = 16
"""Containers read at once."""
NAMES_LOOKED_AT_MAX: Final = 100_000
"""Names that one page looks at: one that hardly any of them fits ends early, and the next goes on."""


@dataclass(frozen=True, slots=True)
class ListQuestion:
    """Which files to list."""

    day: str = ""
    """UTC day as YYYYMMDD; empty for every day."""
    prefix: str = ""
    shards: frozenset[int] = frozenset()
    """Empty for all."""
    created_after_ms: int | None = None
    """Only files created later than this."""
    created_before_ms: int | None = None
    """Only files created earlier than this."""
    show_deleted: bool = False
    open_only: bool = False
    """Only the open files of this node: another one completes the page."""


class ListPosition(NamedTuple):
    """Where a page ended."""

    day: str
    name: str


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page."""

    files: list[FileInfo]
    """What is known without reading anything of the files: size and checksum are 0 save for open ones."""
    next: ListPosition | None
    """Where to go on; None at the end."""
    unlisted: tuple[str, ...] = ()
    """UUIDs of lost nodes whose files, acknowledged by them alone, would belong here too."""


@dataclass(frozen=True, slots=True)
class OpenElsewhere:
    """Open files of other nodes that a page may have."""

    names: Sequence[str] = ()
    until: ListPosition | None = None
    """Up to where the names are all there are; None for the end."""
    unlisted: tuple[str, ...] = ()
    """As in `ListPage`."""


NOWHERE: Final = OpenElsewhere()


class _Run(NamedTuple):
    """Names of one container that follow each other."""

    after: str
    names: list[str]
    is_last: bool


class Listing:
    """Lists the files of one node and of all stored containers."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Catalog,
        containers: StoredContainers,
        open_index: OpenIndex,
        tombstones: Tombstones,
    ) -> None:
        self._bits = settings.shard_bits
        self._wrap_bits = settings.wrap_bits
        self._catalog = catalog
        self._containers = containers
        self._open_index = open_index
        self._tombstones = tombstones
        self._runs: OrderedDict[tuple[str, str], _Run] = OrderedDict()
        """By container and prefix: what was read of it last."""

    async def page(
        self,
        question: ListQuestion,
        *,
        after: ListPosition | None,
        limit: int,
        cost: ReadCost,
        elsewhere: OpenElsewhere = NOWHERE,
    ) -> ListPage:
        """Return up to `limit` files behind `after`, or behind nothing, with those open `elsewhere`.

        Raises:
            CatalogUnavailableError, UnavailableError: something that may hold names could not be asked.
            CorruptError: a container's names are damaged.
        """
        files: list[FileInfo] = []
        budget = NAMES_LOOKED_AT_MAX
        until = elsewhere.until
        for day in await self._days(question, after, elsewhere):
            start = after.name if after is not None and after.day == day else ""
            last = start
            also = [name for name in elsewhere.names if name[-26:-18] == day and name > start]
            async for name, info in self._of_day(question, day, start, limit + 1 - len(files), cost, also):
                if until is not None and (day, name) > until:
                    return ListPage(files, until, elsewhere.unlisted)
                if info is not None:
                    if len(files) == limit:
                        end = ListPosition(files[-1].day, files[-1].name)
                        return ListPage(files, end, elsewhere.unlisted)
                    files.append(info)
                last = name
                budget -= 1
                if not budget:
                    return ListPage(files, ListPosition(day, last), elsewhere.unlisted)
        return ListPage(files, until, elsewhere.unlisted)

    async def _days(
        self, question: ListQuestion, after: ListPosition | None, elsewhere: OpenElsewhere
    ) -> list[str]:
        days = {f"{day:08d}" for day in self._open_index.days()} | {n[-26:-18] for n in elsewhere.names}
        if question.day:
            days = {question.day}
        elif not question.open_only:
            days |= set(await self._catalog.days())
        if question.created_after_ms is not None:
            days = {day for day in days if day_start_ms(day) + DAY_MS > question.created_after_ms}
        if question.created_before_ms is not None:
            days = {day for day in days if day_start_ms(day) < question.created_before_ms}
        return sorted(day for day in days if after is None or day >= after.day)

    async def _of_day(
        self,
        question: ListQuestion,
        day: str,
        after: str,
        limit: int,
        cost: ReadCost,
        elsewhere: Sequence[str],
    ) -> AsyncGenerator[tuple[str, FileInfo | None], None]:
        """Yield the names of a day in order, each with what is known of it; None for one not asked for."""
        # The open files first: one that is sealed meanwhile is then in both, and never in neither.
        # As many of them as the page may have: none that are left out can belong to it.
        opened = {
            file.name
            for file in self._open_index.page(
                int(day),
                lambda file: self._is_asked(question, file.name, file.shard),
                prefix=question.prefix,
                after=after,
                limit=limit,
            )
        }
        opened.update(elsewhere)
        rows = candidates(
            [row for row in await self._rows(question, day) if _may_hold(row, question)],
            prefix=question.prefix,
            day=day,
            after=after,
            wrap_bits=self._wrap_bits,
        )
        deleted = await self._tombstones.of_day(day)
        heap: list[tuple[str, int]] = [(name, -1) for name in opened]
        if question.show_deleted:
            heap += [(name, -2) for name in deleted if name.startswith(question.prefix) and name > after]
        sources: list[list[str]] = [[] for _ in rows]
        ended = [False] * len(rows)
        limiter = asyncio.Semaphore(RUNS_AT_ONCE)
        # At once those that the page may reach; the others when their turn comes, if ever.
        together = count_together(rows, limit)
        blocks = min(RUN_BLOCKS_MAX, -(-limit // (RUN_NAMES * max(1, together))))

        async def load(at: int, start: str) -> None:
            async with limiter:
                run = await self._run(rows[at].row, question.prefix, start, blocks * RUN_NAMES, cost)
            names = run.names[bisect_right(run.names, start) :]
            sources[at], ended[at] = names[::-1], run.is_last

        await asyncio.gather(*[load(at, after) for at in range(together)])
        heap += [(names[-1], at) for at, names in enumerate(sources) if names]
        heap += [(rows[at].low, at) for at in range(together, len(rows))]
        heapq.heapify(heap)
        before = ""
        while heap:
            name, at = heap[0]
            if at < 0:
                heapq.heappop(heap)
            else:
                is_name = bool(sources[at])  # else the bound of a container that is not read yet
                if is_name:
                    sources[at].pop()
                if not sources[at] and not ended[at]:
                    await load(at, name if is_name else after)
                if sources[at]:
                    heapq.heapreplace(heap, (sources[at][-1], at))
                else:
                    heapq.heappop(heap)
                if not is_name:
                    continue
            if name == before:
                continue
            before = name
            row = rows[at].row if at >= 0 else None
            yield name, self._info(question, name, day, row, opened, deleted.get(name))

    def _info(
        self,
        question: ListQuestion,
        name: str,
        day: str,
        row: ContainerRow | None,
        opened: AbstractSet[str],
        deleted_ms: int | None,
    ) -> FileInfo | None:
        if deleted_ms is not None and not question.show_deleted:
            return None
        shard = consistent_hash(name, self._bits)
        if not self._is_asked(question, name, shard):
            return None
        time_ms = created_ms_of(name, self._wrap_bits)
        if deleted_ms is not None:
            return FileInfo(
                name, day, shard, 0, 0, "", _NO_METADATA, FileState.DELETED, time_ms, deleted_ms=deleted_ms
            )
        if row is None and name in opened:
            return FileInfo(name, day, shard, 0, 0, "", _NO_METADATA, FileState.OPEN, time_ms)
        sealed_ms = None if row is None else row.stored_ms
        return FileInfo(name, day, shard, 0, 0, "", _NO_METADATA, FileState.STORED, time_ms, sealed_ms)

    def _is_asked(self, question: ListQuestion, name: str, shard: int) -> bool:
        if question.shards and shard not in question.shards:
            return False
        try:
            time_ms = created_ms_of(name, self._wrap_bits)
        except ValueError:
            return False  # no name that DES makes: packed by other means, and read by them
        low, high = question.created_after_ms, question.created_before_ms
        return (low is None or time_ms > low) and (high is None or time_ms < high)

    async def _rows(self, question: ListQuestion, day: str) -> Sequence[ContainerRow]:
        if question.open_only:
            return []
        rows = await self._catalog.containers(state=ContainerState.STORED, day=day)
        if not question.shards:
            return rows
        return [row for row in rows if _covers(row, question.shards, self._bits)]

    async def _run(self, row: ContainerRow, prefix: str, after: str, count: int, cost: ReadCost) -> _Run:
        """Return up to `count` names of a container: those behind `after`, and perhaps some before it."""
        key = (row.container_id, prefix)
        kept = self._runs.get(key)
        if kept is not None and kept.after <= after and (kept.is_last or after < kept.names[-1]):
            self._runs.move_to_end(key)
            return kept
        reader = self._containers.reader(row, cost)
        names = await reader.list_files(prefix, start_after=after, limit=count)
        run = self._runs[key] = _Run(after, names, len(names) < count)
        self._runs.move_to_end(key)
        while len(self._runs) > RUNS_KEPT:
            self._runs.popitem(last=False)
        return run


def _may_hold(row: ContainerRow, question: ListQuestion) -> bool:
    low, high = question.created_after_ms, question.created_before_ms
    return (low is None or row.name_ms_last > low) and (high is None or row.name_ms_first < high)


def _covers(row: ContainerRow, shards: frozenset[int], bits: int) -> bool:
    """Whether a container may hold a file of one of these shards of `2**bits`."""
    if row.run.bits >= bits:
        shift = row.run.bits - bits
        return any(
            shard in shards
            for shard in range(row.run.first >> shift, (row.run.first + row.run.span - 1 >> shift) + 1)
        )
    shift = bits - row.run.bits
    return any(shard >> shift in row.run for shard in shards)


_NO_METADATA: Final[dict[str, str]] = {}
