"""Deleting: a record in the log, a tombstone in the catalog, and gone for every reader (docs/adr/0004).

    1 log: DELETE(name), synced          <- from here on the file is gone, whatever happens
    2 hide it: open index, tombstones
    3 catalog: insert the tombstone      <- from here on every node knows
    4 answer

A start replays 2 and 3 for the DELETE records it finds. What fails in between is repeated by `step`, and
by the caller's own retry; until then the record pins its segment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog

from des.clock import Clock
from des.cluster import NotShardOwnerError, Shards, not_shard_owner
from des.config import Settings
from des.db.catalog import Catalog, ShardClaim
from des.db.rows import Tombstone
from des.errors import DesError, NotFoundError
from des.files import FileInfo, FileState
from des.ingest.facts import FileFacts
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.values import DeleteDraft, Deletion, OpenFile
from des.naming import ParsedName, consistent_hash, created_ms, parse_name
from des.retrieval.tombstones import Tombstones, file_deleted

_log = structlog.get_logger(__name__)


class Deletions:
    """Deletes files of this node's shards."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: IngestLog,
        open_index: OpenIndex,
        catalog: Catalog,
        tombstones: Tombstones,
        find: Callable[[str, ParsedName], Awaitable[FileInfo | None]],
        claim: Callable[[Sequence[int]], ShardClaim],
        committing: dict[str, asyncio.Future[None]],
        on_settled: Callable[[list[OpenFile]], None],
        clock: Clock,
        shards: Shards,
        cache_s: float = 0.0,
    ) -> None:
        """Connect the parts.

        Args:
            settings: of the node.
            log: takes the DELETE records.
            open_index: from which open files vanish.
            catalog: takes the tombstones.
            tombstones: what readers look into.
            find: tells whether there is a file.
            claim: what a write for some shards has to show.
            committing: names that a write is deciding about; a delete waits its turn among them.
            on_settled: hears of open files that the log lets go of.
            clock: time between repetitions.
            shards: this node's hold on shards.
            cache_s: how long other nodes may still use what they read before: an answer waits for that.
        """
        self._shards = shards
        self._cache_s = cache_s
        self._bits = settings.shard_bits
        self._wrap_bits = settings.wrap_bits
        self._retry_s = settings.seal.retry_s
        self._log = log
        self._open_index = open_index
        self._catalog = catalog
        self._tombstones = tombstones
        self._find = find
        self._claim = claim
        self._committing = committing
        self._on_settled = on_settled
        self._clock = clock
        self._owed: dict[str, Deletion] = {}
        """In the log, and not known to be in the catalog."""

    async def delete_many(
        self, names: Sequence[str], *, allow_missing: bool
    ) -> list[FileInfo | DesError | None]:
        """Delete files; return for each, in order, what it was, or why it is not deleted.

        None stands for an unknown name where that is allowed. A name given twice is deleted once, and its
        second place answered like the first. A caller that is cancelled does not stop what was begun.
        """
        return await asyncio.shield(asyncio.ensure_future(self._delete(names, allow_missing=allow_missing)))

    async def _delete(self, names: Sequence[str], *, allow_missing: bool) -> list[FileInfo | DesError | None]:
        wanted = list(dict.fromkeys(names))
        done = asyncio.get_running_loop().create_future()
        claimed: list[str] = []
        try:
            for name in sorted(wanted):  # in one order, so that two batches never wait for each other
                while (other := self._committing.get(name)) is not None:
                    await asyncio.shield(other)
                self._committing[name] = done
                claimed.append(name)
            found = {name: await self._look(name) for name in wanted}
            files = [info for info in found.values() if isinstance(info, FileInfo)]
            try:
                async with self._shards.writing({info.shard for info in files}):
                    await self._record(files, found)
            except NotShardOwnerError as error:
                found.update((info.name, error) for info in files)
            else:
                if files and self._cache_s:
                    await self._clock.sleep(self._cache_s)
        finally:
            for name in claimed:
                del self._committing[name]
            done.set_result(None)
        return [self._answer(found[name], allow_missing=allow_missing) for name in names]

    async def _look(self, name: str) -> FileInfo | DesError:
        """Return the file to delete, or why there is none."""
        try:
            parsed = parse_name(name)
            created_ms(parsed, self._wrap_bits)
            shard = consistent_hash(name, self._bits)
            if not self._shards.owns(shard):
                raise not_shard_owner(shard, "is not this node's")
            deleted_ms = await self._tombstones.deleted_ms(name, parsed.day, shard, bits=self._bits)
            if deleted_ms and name not in self._owed:
                return file_deleted(name, deleted_ms)
            info = (
                await self._find(name, parsed)
                if not deleted_ms
                else _gone(name, parsed, shard, self._wrap_bits)
            )
            return NotFoundError(f"no file is named {name!r}", name=name) if info is None else info
        except DesError as error:
            return error

    async def _record(self, files: Sequence[FileInfo], found: dict[str, FileInfo | DesError]) -> None:
        """Delete the files, and put what became of each into `found`."""
        drafts = [
            DeleteDraft(
                info.name,
                int(info.day),
                info.shard,
                self._external_key(info),
            )
            for info in files
            if info.name not in self._owed
        ]
        try:
            if drafts:
                self._owe(await self._log.append_deletes(drafts))
            tombstones = await self._settle([info.name for info in files])
        except DesError as error:
            found.update((info.name, error) for info in files)
            return
        for info in files:
            found[info.name] = info._replace(
                state=FileState.DELETED, deleted_ms=tombstones[info.name].deleted_ms, placement=None
            )

    def _external_key(self, info: FileInfo) -> str:
        """Return the object of a big file, which the tombstone then owns; empty for others."""
        if info.placement is not None:
            return info.placement.external_key or ""
        file = self._open_index.get(info.name)
        external = None if file is None else FileFacts.decode(file.facts).external
        return "" if external is None else external.key

    def _owe(self, deletions: Sequence[Deletion]) -> None:
        """Remember what the log has. A node alone hides it at once; others could not know of it yet."""
        self._owed.update((deletion.name, deletion) for deletion in deletions)
        if not self._cache_s:
            self._hide(deletions)

    def _hide(self, deletions: Sequence[Deletion]) -> None:
        for deletion in deletions:
            self._tombstones.add(deletion.name, deletion.time_ms)
            file = self._open_index.delete(deletion.name, deletion.seq)
            if file is not None:
                self._log.mark_stored([file])  # no container will hold it: its bytes may go
                self._on_settled([file])

    async def _settle(self, names: Sequence[str]) -> dict[str, Tombstone]:
        """Bring deletions to the catalog, so that the log may forget them.

        Raises:
            CatalogUnavailableError, FencedError: they stay owed.
        """
        owed = [self._owed[name] for name in names]
        if not owed:
            return {}
        claim = self._claim(sorted({deletion.shard for deletion in owed}))
        epochs = dict(claim.epochs)
        rows = await self._catalog.put_tombstones(
            [
                Tombstone(
                    name=deletion.name,
                    day=str(deletion.day),
                    shard=deletion.shard,
                    bits=self._bits,
                    epoch=epochs[deletion.shard],
                    external_key=deletion.external_key,
                )
                for deletion in owed
            ],
            claim,
        )
        self._hide(owed)
        self._tombstones.settle((row.name, row.day, row.shard, row.bits, row.deleted_ms) for row in rows)
        self._log.release_deletes(owed)
        for deletion in owed:
            self._owed.pop(deletion.name, None)
        return {row.name: row for row in rows}

    @staticmethod
    def _answer(found: FileInfo | DesError, *, allow_missing: bool) -> FileInfo | DesError | None:
        return None if allow_missing and isinstance(found, NotFoundError) else found

    async def replay(self, deletions: Sequence[Deletion]) -> None:
        """Take over what an earlier process recorded.

        Raises:
            CatalogUnavailableError: start again later.
        """
        self._owe(deletions)
        await self._settle(list(dict.fromkeys(deletion.name for deletion in deletions)))

    def owes(self, shard: int) -> bool:
        """Whether a deletion of the shard is in the log and not known to be in the catalog."""
        return any(deletion.shard == shard for deletion in self._owed.values())

    async def settle_shards(self, shards: Collection[int]) -> None:
        """Bring to the catalog what is owed of some shards. Same errors as `step`."""
        await self._settle([name for name, deletion in self._owed.items() if deletion.shard in shards])

    async def step(self) -> None:
        """Bring to the catalog what is still owed.

        Raises:
            DesError: it stays owed.
        """
        if self._owed:
            await self._settle(list(self._owed))

    def forsake(self, shards: Collection[int]) -> None:
        """Give up deletions of shards that another node has taken, which nobody was told of."""
        lost = [deletion for deletion in self._owed.values() if deletion.shard in shards]
        self._log.release_deletes(lost)
        for deletion in lost:
            del self._owed[deletion.name]

    async def run(self) -> None:
        """Repeat `step` until cancelled."""
        while True:
            await self._clock.sleep(self._retry_s)
            try:
                await self.step()
            except DesError as error:
                _log.warning(
                    "tombstones not recorded, will be repeated", owed=len(self._owed), error=str(error)
                )


def _gone(name: str, parsed: ParsedName, shard: int, wrap_bits: int) -> FileInfo:
    """Return what is still known of a file whose deletion is in the log already."""
    return FileInfo(name, parsed.day, shard, 0, 0, "", {}, FileState.DELETED, created_ms(parsed, wrap_bits))
