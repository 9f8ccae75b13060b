"""What a node does with its open files as shards come and go (docs/cluster.md).

A file of the log belongs to this node while the node owns its shard. When another node takes the shard
without this one's help, the files turn *foreign*: they are no longer shown, sealed or decided about
here, and wait to be brought to the shard's owner, who knows whether it has them already.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import structlog

from des.cluster import ClusterLease
from des.db.catalog import Catalog
from des.db.membership import Estate
from des.errors import DesError
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.node.deletions import Deletions
from des.packer import MultiShardPacker
from des.packer.log_shipper import LogShipper
from des.packer.shipped_log import Replay
from des.retrieval import StoredContainers
from des.retrieval.tombstones import Tombstones

_log = structlog.get_logger(__name__)

FORSAKE_RETRY_S: Final = 0.5


class Fate(StrEnum):
    """What a record of the log is to this node."""

    OWN = "own"
    """This node has held the shard ever since: the file is its own."""
    FOREIGN = "foreign"
    """Others had the shard meanwhile: its owner decides."""
    VOID = "void"
    """Brought to the shard's owner before: others have it."""


def fate_of(shard: int, seq: int, *, owns: bool, estates: dict[int, Estate]) -> Fate:
    """Decide about a record from what others took from this node, by shard.

    A hand-over in order leaves no record that is not in a stored container, so a shard without an
    estate was either never lost or lost with nothing in it.
    """
    estate = estates.get(shard)
    if estate is not None:
        if seq < estate.settled_seq:
            return Fate.VOID
        if estate.owed:
            return Fate.FOREIGN
    return Fate.OWN if owns else Fate.FOREIGN


class ForeignFiles:
    """Files of the own log that belong to other nodes' shards, until they are brought there."""

    def __init__(self) -> None:
        self._by_shard: dict[int, dict[int, OpenFile]] = {}
        self._stop: dict[int, int] = {}
        """Shard to one past the highest sequence number that was ever foreign."""

    def add(self, files: Iterable[OpenFile]) -> None:
        """Take files in."""
        for file in files:
            self._by_shard.setdefault(file.shard, {})[file.seq] = file
            self._stop[file.shard] = max(self._stop.get(file.shard, 0), file.seq + 1)

    def remove(self, file: OpenFile) -> None:
        """Let a file go that its shard's owner has."""
        waiting = self._by_shard.get(file.shard, {})
        waiting.pop(file.seq, None)
        if not waiting:
            self._by_shard.pop(file.shard, None)

    def waiting(self) -> list[OpenFile]:
        """Return all files, in log order."""
        return sorted((f for files in self._by_shard.values() for f in files.values()), key=lambda f: f.seq)

    def count(self, shard: int) -> int:
        """Return how many files of a shard wait."""
        return len(self._by_shard.get(shard, ()))

    def settled_seq(self, shard: int) -> int:
        """Return the sequence number below which every foreign record of a shard has been brought home."""
        return self._stop.get(shard, 0)

    def __len__(self) -> int:
        return sum(map(len, self._by_shard.values()))


class ClusterDuties:
    """Acts for one node as its lease gains and loses shards."""

    def __init__(
        self,
        *,
        lease: ClusterLease,
        catalog: Catalog,
        log: IngestLog,
        open_index: OpenIndex,
        containers: StoredContainers,
        foreign: ForeignFiles,
        packer: MultiShardPacker,
        tombstones: Tombstones,
        shipper: LogShipper,
        replay: Callable[[Collection[int]], Awaitable[Replay]],
    ) -> None:
        """Act over these parts.

        Args:
            lease: of this node.
            catalog: has the estates.
            log: of this node.
            open_index: of this node.
            containers: has cached rows.
            foreign: files of the log that others own.
            packer: of this node.
            tombstones: cached, of other nodes' shards too.
            shipper: brings files to the object store.
            replay: takes over what former owners of shards shipped to the object store.
        """
        self._lease = lease
        self._catalog = catalog
        self._log = log
        self._open_index = open_index
        self._containers = containers
        self._packer = packer
        self._tombstones = tombstones
        self._shipper = shipper
        self._replay = replay
        self._recovered: list[OpenFile] = []
        """Files of earlier starts that may still be open."""
        self.deletions: Deletions | None = None
        """Set by the assembly, which makes them last."""
        self.foreign = foreign
        self._forsaking: set[asyncio.Task[None]] = set()

    def publish(self, files: Sequence[OpenFile]) -> None:
        """Show files that the log has synced, but those of shards that were lost meanwhile."""
        own = [file for file in files if file.shard in self._lease.locks]
        if len(own) != len(files):
            self.foreign.add(file for file in files if file.shard not in self._lease.locks)
        self._open_index.publish(own)

    def keeps(self, shard: int, seq: int) -> bool:
        """Whether a record of the recovered log is this node's to act on."""
        estates = {estate.shard: estate for estate in self._lease.own_estates()}
        owns = shard in self._lease.locks
        return fate_of(shard, seq, owns=owns, estates=estates) is Fate.OWN

    def sort(self, files: Iterable[OpenFile]) -> list[OpenFile]:
        """Return which files of a recovered log, in no stored container, are this node's to show and seal."""
        estates = {estate.shard: estate for estate in self._lease.own_estates()}
        sorted_files: dict[Fate, list[OpenFile]] = {fate: [] for fate in Fate}
        for file in files:
            fate = fate_of(file.shard, file.seq, owns=file.shard in self._lease.locks, estates=estates)
            sorted_files[fate].append(file)
        self.foreign.add(sorted_files[Fate.FOREIGN])
        self._log.mark_stored(sorted_files[Fate.VOID])
        self._recovered = list(sorted_files[Fate.OWN])
        return sorted_files[Fate.OWN]

    def lost(self, shards: Sequence[int]) -> None:
        """See `Duties.lost`."""
        withdrawn = self._open_index.withdraw(shards)
        self.foreign.add(withdrawn)
        self._shipper.withdraw(withdrawn)
        if self.deletions is not None:
            self.deletions.forsake(shards)
        self.gave(shards)

    def gave(self, shards: Sequence[int]) -> None:
        """See `Duties.gave`."""
        task = asyncio.create_task(self._forsake(shards))
        self._forsaking.add(task)
        task.add_done_callback(self._forsaking.discard)

    async def _forsake(self, shards: Collection[int]) -> None:
        while True:
            try:
                await self._packer.forsake(shards)
            except DesError as error:
                _log.warning("seals of lost shards are not given up yet", error=str(error))
                await asyncio.sleep(FORSAKE_RETRY_S)
            else:
                return

    async def gained(self, shards: Sequence[int]) -> None:
        """See `Duties.gained`."""
        if self._forsaking:
            # A seal of an earlier tenure must be given up before the shard has a new one.
            await asyncio.wait(self._forsaking)
        self._containers.forget_rows()
        self._tombstones.forget()
        found = await self._replay(shards)
        if found.files:
            _log.info("files of lost nodes taken over", files=found.files, known=found.known)

    async def empty(self, shards: Sequence[int]) -> Mapping[int, DesError]:
        """See `Duties.empty`."""
        failed: dict[int, DesError] = {}
        if all(self.is_empty(shard) for shard in shards):
            return failed
        if self.deletions is not None:
            try:
                await self.deletions.settle_shards(shards)
            except DesError as error:
                failed = {shard: error for shard in shards if self.deletions.owes(shard)}
        return {**failed, **await self._packer.seal_shards(shards)}

    def is_empty(self, shard: int) -> bool:
        """See `Duties.is_empty`."""
        return (
            self._open_index.shard_counts(shard)[0] == 0
            and not self._packer.is_sealing(shard)
            and not (self.deletions is not None and self.deletions.owes(shard))
        )

    def awaits_files(self, shard: int) -> bool:
        """See `Duties.awaits_files`."""
        return self.foreign.count(shard) > 0

    def holds_local_files(self) -> bool:
        """See `Duties.holds_local_files`."""
        # What this start acknowledges alone, it notes before it says so (`Shards.note_local`).
        self._recovered = [file for file in self._recovered if self._open_index.get(file.name) is file]
        return bool(self._recovered) or len(self.foreign) > 0

    async def close(self) -> None:
        """Stop what runs in the background."""
        for task in self._forsaking:
            task.cancel()
        await asyncio.gather(*self._forsaking, return_exceptions=True)

    def brought_home(self, file: OpenFile) -> None:
        """Let a foreign file go: the shard's owner has it, or has a tombstone of it."""
        self.foreign.remove(file)
        self._log.mark_stored([file])

    async def settle_estates(self) -> None:
        """Tell the catalog of shards of which nothing is left to bring home."""
        node = self._lease.node
        by_seq: dict[int, dict[int, int]] = {}
        for estate in self._lease.own_estates():
            if estate.owed and not self.foreign.count(estate.shard):
                by_seq.setdefault(self.foreign.settled_seq(estate.shard), {})[estate.shard] = estate.epoch
        for seq, taken in by_seq.items():
            await self._catalog.settle_estates(node, taken, seq=seq)
        void = {
            estate.shard: estate.epoch
            for estate in self._lease.own_estates()
            if not estate.owed and estate.settled_seq <= self._log.first_seq
        }
        if void:
            await self._catalog.drop_estates(node, void)
        if by_seq or void:
            await self._lease.refresh()
