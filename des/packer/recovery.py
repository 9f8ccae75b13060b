"""What a start owes to the seals that an earlier process began (DESIGN §4, guarantee I3)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from des.db.catalog import Catalog, ContainerRow, ContainerState
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile, RecoveredLog, Sealing
from des.naming import consistent_hash
from des.packer.multi_shard_packer import MultiShardPacker

_log = structlog.get_logger(__name__)


class SealDebt(StrEnum):
    """The one safe thing to do about a recovered seal."""

    NOTHING = "nothing"
    """Stored and recorded: its files are read from the container."""
    REPEAT = "repeat"
    """Not recorded: build it again from the log; the same bytes under the same key."""
    VOID = "void"
    """Given up for good: its files are open, unless a later seal took them."""


@dataclass(frozen=True, slots=True)
class RecoverySummary:
    """What a start found and did."""

    open_files: int
    stored_seals: int
    repeated_seals: int
    dropped_duplicates: int
    """Records whose name an earlier record already had, whose writers were never answered, and records of
    files that were deleted before any seal took them."""


def plan_seal(row: ContainerRow | None) -> SealDebt:
    """Decide from the catalog alone: it is the only commit point, the log's word is a hint."""
    if row is None or row.state is ContainerState.UPLOADING:
        return SealDebt.REPEAT
    return SealDebt.VOID if row.state is ContainerState.ABANDONED else SealDebt.NOTHING


def void_seals(debts: Sequence[tuple[Sealing, SealDebt]]) -> set[str]:
    """Return the ids of the seals, given in log order, that must not be repeated.

    A seal's files were offered to another one only after it was abandoned. So of seals that share a
    record the stored one holds, or else the last in the log, even where the catalog has lost a row.
    """
    void = {sealing.container_id for sealing, debt in debts if debt is SealDebt.VOID}
    taken: set[int] = set()
    for sealing, debt in debts:
        if debt is SealDebt.NOTHING:
            taken.update(map(int, sealing.seqs))
    for sealing, debt in reversed(debts):
        if debt is SealDebt.REPEAT:
            if taken.isdisjoint(map(int, sealing.seqs)):
                taken.update(map(int, sealing.seqs))
            else:
                void.add(sealing.container_id)
    return void


def placed_anew(recovered: RecoveredLog, bits: int) -> RecoveredLog:
    """Return the log with the shard of each record as it is now: it was written before that changed."""
    for file in recovered.files:
        file.shard = consistent_hash(file.name, bits)
    recovered.deleted = [replace(one, shard=consistent_hash(one.name, bits)) for one in recovered.deleted]
    return recovered


class CrashRecoveryManager:
    """Puts the recovered log's files where they belong, before anything is served."""

    def __init__(
        self, *, catalog: Catalog, log: IngestLog, open_index: OpenIndex, packer: MultiShardPacker
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._open_index = open_index
        self._packer = packer

    async def settle(
        self,
        recovered: RecoveredLog,
        *,
        sort: Callable[[Iterable[OpenFile]], Sequence[OpenFile]] = list,
        holds: Callable[[int], bool] = lambda _: True,
        bits: int | None = None,
    ) -> RecoverySummary:
        """Publish every file that is not stored, and hand unfinished seals to the packer.

        Args:
            recovered: what the log held.
            sort: takes files that are in no stored container and returns those that are this node's; a
                seal with any other is not repeated.
            holds: whether a shard is this node's; a seal that reaches into any other is not repeated either.
            bits: shard bits of the store; a seal of others is not repeated. None for those of every seal.

        Raises:
            CatalogUnavailableError: nothing was changed; start again later.
        """
        for deletion in recovered.deleted:
            self._open_index.delete(deletion.name, deletion.seq)
        by_seq = {file.seq: file for file in recovered.files}
        debts = [
            (sealing, plan_seal(await self._catalog.container(sealing.container_id)))
            for sealing in recovered.sealings
        ]
        void = void_seals(debts)
        sealed: set[int] = set()
        stored = repeated = 0
        unfinished: list[tuple[Sealing, list[OpenFile]]] = []
        # The store was divided anew since: its shards are other ones, and its claim was fenced off for ever.
        void |= {
            sealing.container_id
            for sealing, debt in debts
            if debt is SealDebt.REPEAT and bits is not None and sealing.bits != bits
        }
        for sealing, debt in debts:
            if sealing.container_id in void:
                continue
            files = [by_seq[int(seq)] for seq in sealing.seqs if int(seq) in by_seq]
            if debt is SealDebt.NOTHING:
                self._packer.adopt_stored(sealing, files)
                sealed.update(int(seq) for seq in sealing.seqs)
                stored += 1
            elif len(files) == len(sealing.seqs):
                unfinished.append((sealing, files))
            else:
                # Records leave the log only after their container was stored, so the database lost this
                # row since. What the log still has is sealed anew; the object has it all.
                _log.error(
                    "catalog does not know a container whose records are partly gone from the log",
                    container=sealing.container_id,
                    members=len(sealing.seqs),
                    in_log=len(files),
                )
        own = {file.seq: file for file in sort(f for f in recovered.files if f.seq not in sealed)}
        # A seal that was given up, and whose files went into a later one, must not be repeated: the latest
        # that names a file has it.
        for sealing, files in reversed(unfinished):
            run = range(sealing.first_shard, sealing.first_shard + sealing.span)
            if any(file.seq in sealed or file.seq not in own for file in files) or not all(map(holds, run)):
                _log.info("seal given up", container=sealing.container_id, files=len(files))
                continue
            for file in files:
                self._open_index.add(file)
            self._packer.adopt(sealing, files)
            sealed.update(int(seq) for seq in sealing.seqs)
            repeated += 1
        opened, dropped = self._publish(file for file in own.values() if file.seq not in sealed)
        return RecoverySummary(opened, stored, repeated, dropped)

    def _publish(self, files: Iterable[OpenFile]) -> tuple[int, int]:
        opened = 0
        doubled: list[OpenFile] = []
        for file in files:
            if self._open_index.get(file.name) is not None or self._open_index.is_deleted(file.name):
                doubled.append(file)
                continue
            self._open_index.publish([file])
            opened += 1
        self._log.mark_stored(doubled)
        return opened, len(doubled)
