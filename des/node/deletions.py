"""Deleting: a record in the log, a tombstone in the catalog, and gone for every reader (docs/adr/0004).

    1 log: DELETE(name), synced          <- from here on the file is gone, whatever happens
    2 hide it: open index, tombstones
    3 catalog: insert the tombstone      <- from here on every node knows
    4 answer
    5 a copy of the tombstone in the object store, with others, some minutes later; sooner where the record
      keeps a log that is nearly full from being emptied

A start replays 2 and 3 for the DELETE records it finds. What fails in between is repeated by `step`, and
by the caller's own retry. The record pins its segment until the copy is written, so that no crash loses it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

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
from des.packer.container_id import make_container_id
from des.packer.deleted_names import NAMES_MAX, write_deleted
from des.packer.seal_plan import BUDGET_HIGH
from des.retrieval.tombstones import Tombstones, file_deleted
from des.storage.object_store import ObjectStore

_log = structlog.get_logger(__name__)

COPY_AFTER_S: Final = 300.0
"""A tombstone waits this long for others, at most: its copy is one of many in one object."""
COPY_NAMES: Final = 2000
"""... or until there are this many."""
UNCOPIED_MAX: Final = 200_000
"""More than this are not waited for: about 300 bytes each, and segments of the log that they pin."""
CLOSE_S: Final = 5.0
SETTLED_AT_ONCE: Final = 2000
"""Tombstones of one transaction, some tenths of a second: a start finds hundreds of thousands in its log, and
one transaction may take `catalog.transaction_s`."""


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
        store: ObjectStore,
        random_bytes: Callable[[int], bytes],
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
            store: takes copies of the tombstones.
            random_bytes: for ids of copies.
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
        self._store = store
        self._random_bytes = random_bytes
        self._prefix = settings.object_prefix
        self._uncopied: dict[str, tuple[Deletion, Tombstone]] = {}
        """In log and catalog, and not yet in the object store."""
        self._uncopied_since = 0.0

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
                async with self._shards.writing({info.shard for info in files}, named_ms=0):
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
        files_by_name = {info.name: info for info in files}
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
            # Looked up before the first wait: `step` may settle the later ones meanwhile.
            for some in _portions([self._owed[info.name] for info in files]):
                for row in await self._settle(some):
                    found[row.name] = _deleted(files_by_name[row.name], row)
        except DesError as error:
            found.update((info.name, error) for info in files if found[info.name] is info)

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

    async def _settle_all(self, owed: Sequence[Deletion]) -> None:
        """Bring any number of deletions to the catalog. Errors as of `_settle`; what was brought stays so."""
        for some in _portions(owed):
            # A delete that runs meanwhile may have brought some of them.
            await self._settle([deletion for deletion in some if deletion.name in self._owed])

    async def _settle(self, owed: Sequence[Deletion]) -> list[Tombstone]:
        """Bring deletions to the catalog in one transaction, so that the log may forget them.

        Raises:
            CatalogUnavailableError, FencedError: they stay owed.
        """
        if not owed:
            return []
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
        if not self._uncopied:
            self._uncopied_since = self._clock.monotonic()
        for deletion, row in zip(owed, rows, strict=True):
            self._uncopied[deletion.name] = (deletion, row)
            self._owed.pop(deletion.name, None)
        self._forget_the_oldest()
        return rows

    def _forget_the_oldest(self) -> None:
        """Keep memory and log bounded while the store is away: `des gc --apply` copies what is left out."""
        too_many = list(islice(self._uncopied, max(0, len(self._uncopied) - UNCOPIED_MAX)))
        self._log.release_deletes([self._uncopied.pop(name)[0] for name in too_many])

    async def copy(self) -> None:
        """Bring copies of the tombstones to the object store, and let the log forget the records.

        Raises:
            DesError: what was not copied stays pinned.
        """
        while batch := dict(islice(self._uncopied.items(), NAMES_MAX)):
            await write_deleted(
                self._store,
                [row for _, row in batch.values()],
                copy_id=make_container_id(self._clock.now_ms(), self._random_bytes),
                prefix=self._prefix,
            )
            self._log.release_deletes([deletion for deletion, _ in batch.values()])
            for name, copied in batch.items():
                if self._uncopied.get(name) is copied:
                    del self._uncopied[name]

    def _copy_is_due(self) -> bool:
        if not self._uncopied:
            return False
        waited_s = self._clock.monotonic() - self._uncopied_since
        return len(self._uncopied) >= COPY_NAMES or waited_s >= COPY_AFTER_S or self._holds_up_the_log()

    def _holds_up_the_log(self) -> bool:
        """Whether a log that is nearly full could not give up its oldest segment because of these records."""
        oldest, _ = next(iter(self._uncopied.values()))
        return self._log.fullness > BUDGET_HIGH and oldest.segment <= self._log.oldest_segment

    async def close(self) -> None:
        """Copy what is not copied yet, if the store takes it at once; the log keeps the rest."""
        with suppress(DesError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.copy()

    @staticmethod
    def _answer(found: FileInfo | DesError, *, allow_missing: bool) -> FileInfo | DesError | None:
        return None if allow_missing and isinstance(found, NotFoundError) else found

    async def replay(self, deletions: Sequence[Deletion]) -> None:
        """Take over what an earlier process recorded.

        Raises:
            CatalogUnavailableError: start again later.
        """
        self._owe(deletions)
        await self._settle_all(list({deletion.name: deletion for deletion in deletions}.values()))

    def owes(self, shard: int) -> bool:
        """Whether a deletion of the shard is in the log and not known to be in the catalog."""
        return any(deletion.shard == shard for deletion in self._owed.values())

    async def settle_shards(self, shards: Collection[int]) -> None:
        """Bring to the catalog what is owed of some shards. Same errors as `step`."""
        await self._settle_all([deletion for deletion in self._owed.values() if deletion.shard in shards])

    async def step(self) -> None:
        """Bring to the catalog what is still owed.

        Raises:
            DesError: it stays owed.
        """
        if self._owed:
            await self._settle_all(list(self._owed.values()))

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
            try:
                if self._copy_is_due():
                    await self.copy()
            except DesError as error:
                _log.warning(
                    "tombstones not copied, will be repeated", names=len(self._uncopied), error=str(error)
                )


def _portions(owed: Sequence[Deletion]) -> Iterator[Sequence[Deletion]]:
    for start in range(0, len(owed), SETTLED_AT_ONCE):
        yield owed[start : start + SETTLED_AT_ONCE]


def _deleted(info: FileInfo, tombstone: Tombstone) -> FileInfo:
    return info._replace(state=FileState.DELETED, deleted_ms=tombstone.deleted_ms, placement=None)


def _gone(name: str, parsed: ParsedName, shard: int, wrap_bits: int) -> FileInfo:
    """Return what is still known of a file whose deletion is in the log already."""
    return FileInfo(name, parsed.day, shard, 0, 0, "", {}, FileState.DELETED, created_ms(parsed, wrap_bits))
