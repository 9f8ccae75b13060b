"""Many files in one call: located together, read in storage order by few ranged reads (DESIGN §5, §6).

Open files come segment by segment, stored ones container by container, each by offset. What does not fit
that way (long, external, of the layout v1, or not settled by one page) is opened one by one. Nothing here
makes a task or waits for a single file, save for those.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Final

from des.cluster import Shards
from des.config import Settings
from des.errors import DesError
from des.files import FileInfo
from des.ingest.facts import FileFacts
from des.ingest.log_reader import LogReader
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.retrieval.batch_frames import BatchFrames
from des.retrieval.batch_log import BatchLog
from des.retrieval.batch_parts import Part, Wanted, failed, stream
from des.retrieval.batch_places import BatchPlaces
from des.retrieval.opened_file import OpenedFile, ReadCost
from des.retrieval.spans import ahead
from des.retrieval.stored_containers import StoredContainers
from des.retrieval.tombstones import Tombstones
from des.storage.object_store import ObjectStore

OPENED_AHEAD: Final = 4
"""Files opened one by one at once."""
STATED_AHEAD: Final = 16
"""Files whose metadata are read one by one at once."""


class BatchReader:
    """Answers batches for the shards of one node."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: LogReader,
        open_index: OpenIndex,
        containers: StoredContainers,
        store: ObjectStore,
        tombstones: Tombstones,
        describe_open: Callable[[OpenFile, FileFacts], FileInfo],
        open_file: Callable[[str], Coroutine[object, object, OpenedFile]],
        stat_file: Callable[[str], Coroutine[object, object, FileInfo]],
        absent: Callable[[str], DesError],
        leave: Callable[[str], None],
        shards: Shards | None = None,
    ) -> None:
        self._log = BatchLog(log, describe_open)
        self._frames = BatchFrames(store, containers)
        self._open_file = open_file
        self._stat_file = stat_file
        self._places = BatchPlaces(
            settings=settings,
            open_index=open_index,
            containers=containers,
            tombstones=tombstones,
            absent=absent,
            leave=leave,
            shards=shards,
        )

    async def read(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """Yield every wanted file, many parts at a time, in the order in which they are stored.

        All parts of a file come one after the other, none longer than `part_bytes`, each verified. What
        cannot be read is a part with its error; the others go on. Memory: `SPANS_AHEAD` requests.
        """
        plan = await self._places.locate([each.name for each in wanted], cost)
        if plan.failed:
            yield [failed(at, error) for at, error in plan.failed.items()]
        if plan.empty:
            yield [self._log.empty(at, wanted[at], file) for at, file in plan.empty]
        for segment in sorted(plan.log):
            for group in self._log.groups(plan.log[segment]):
                parts = await self._log.read(segment, group, wanted, part_bytes)
                if parts is None:
                    plan.lone += [at for _, _, at, _ in group]
                else:
                    yield parts
        # Closed here and now when the caller stops: requests under way are not left behind.
        async with aclosing(self._frames.read(plan.frames.values(), wanted, part_bytes, cost)) as groups:
            async for parts in groups:
                yield parts
        async with aclosing(self._one_by_one(wanted, plan.lone, part_bytes, cost)) as groups:
            async for parts in groups:
                yield parts

    async def stat(self, names: Sequence[str], *, cost: ReadCost) -> list[FileInfo | DesError]:
        """Return what is known of each file, in the order asked, or why nothing is.

        The metadata of stored files are read, neighbours in one request; open files cost nothing.
        """
        plan = await self._places.locate(names, cost)
        found: dict[int, FileInfo | DesError] = dict(plan.failed)
        for files in plan.log.values():
            found.update((at, self._log.describe(file)) for _, _, at, file in files)
        found.update((at, self._log.describe(file)) for at, file in plan.empty)
        async with aclosing(self._frames.stat(plan.frames.values(), cost)) as stated:
            async for at, info in stated:
                if info is None:
                    plan.lone.append(at)
                else:
                    found[at] = info

        async def stat(at: int) -> tuple[int, FileInfo | DesError]:
            try:
                return at, await self._stat_file(names[at])
            except DesError as error:
                return at, error

        found |= {at: info async for at, info in ahead((stat(at) for at in plan.lone), STATED_AHEAD)}
        return [found[at] for at in range(len(names))]

    async def _one_by_one(
        self, wanted: Sequence[Wanted], places: Sequence[int], part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        async def begin(at: int) -> tuple[int, OpenedFile | DesError]:
            try:
                return at, await self._open_file(wanted[at].name)
            except DesError as error:
                return at, error

        async with aclosing(ahead((begin(at) for at in places), OPENED_AHEAD)) as files:
            async for at, opened in files:
                if isinstance(opened, DesError):
                    yield [failed(at, opened)]
                    continue
                async for part in stream(at, wanted[at], opened, part_bytes):
                    yield [part]
                cost.requests += opened.cost.requests
                cost.bytes += opened.cost.bytes
