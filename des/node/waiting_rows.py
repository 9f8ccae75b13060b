"""Claimed rows whose files are in the log: until their containers are committed, then until they are marked.

What is kept here is lost with the process, and nothing else is: the rows stay claimed, and whoever holds
their shards next asks the store for their names.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from des.clock import Clock
from des.db.catalog import ContainerRow, ContainerState
from des.ingest.values import OpenFile
from des.monitoring.ingest_metrics import IngestMetrics
from des.node.ingest_node import IngestNode
from des.sources import ClaimedRow, PackedRow
from des.sources.provider import MultiSourceFileProvider

MARK_BATCH: Final = 500
"""Rows marked packed in one transaction."""


@dataclass(slots=True)
class _Held:
    """A claimed row whose file is in the log, waiting for its container."""

    row: ClaimedRow
    epoch: int
    """Of its shard's lock, when it was claimed."""
    sha256: str
    renew_at: float
    """When its claim is to be renewed, in monotonic seconds."""


class WaitingRows:
    """The rows of one packer that are not marked yet. One event loop owns it."""

    def __init__(
        self, node: IngestNode, provider: MultiSourceFileProvider, *, clock: Clock, metrics: IngestMetrics
    ) -> None:
        self._node = node
        self._provider = provider
        self._clock = clock
        self._metrics = metrics
        self._held: dict[str, _Held] = {}
        self._outbox: dict[str, deque[PackedRow]] = {}
        """Rows to be marked packed, by source."""
        self._moved: list[_Held] = []
        """Rows whose files are in a container that was replaced since."""
        self._tenures: Mapping[int, int] = {}
        """As `drop_lost` was told them last."""
        self._settling = asyncio.Lock()
        node.on_files_stored(self._on_stored)

    def __len__(self) -> int:
        return len(self._held) + len(self._moved) + sum(map(len, self._outbox.values()))

    def __contains__(self, name: str) -> bool:
        """Whether the file of that name waits for its container."""
        return name in self._held

    @property
    def held(self) -> int:
        """Rows whose files wait for their containers."""
        return len(self._held)

    def rows(self) -> Iterator[ClaimedRow]:
        """Yield all of them."""
        yield from (held.row for held in self._held.values())
        yield from (held.row for held in self._moved)
        for waiting in self._outbox.values():
            yield from (packed.row for packed in waiting)

    def hold(self, row: ClaimedRow, epoch: int, sha256: str) -> None:
        """Wait for the container of a row's file, which is open; its claim is renewed until then."""
        renew_at = self._clock.monotonic() + self._provider.timeout_s(row.source) / 2
        self._held[row.name] = _Held(row, epoch, sha256, renew_at)
        if self._tenures.get(row.shard) != epoch:
            self._tenures = {}  # the shard changed hands while the file was fetched: look at all of them

    def settle_later(self, row: ClaimedRow, container_id: str, sha256: str) -> None:
        """Mark the row packed at the next `settle`: its container is committed."""
        waiting = self._outbox.setdefault(row.source, deque())
        waiting.append(PackedRow(row, container_id, sha256))

    def drop_lost(self, tenures: Mapping[int, int]) -> list[str]:
        """Forget rows of shards that somebody else has, or had, since: their claims are the holder's.

        Returns the source of each.
        """
        if tenures == self._tenures:
            return []
        self._tenures = dict(tenures)
        lost = [name for name, held in self._held.items() if tenures.get(held.row.shard) != held.epoch]
        return [self._held.pop(name).row.source for name in lost]

    async def settle(self) -> None:
        """Mark rows whose containers are committed, and renew the claims of the others.

        Raises:
            DesError: where a file went could not be asked; nothing is forgotten.
        """
        async with self._settling:
            await self._look_again()
            await asyncio.gather(*(self._mark(name, waiting) for name, waiting in self._outbox.items()))
        now = self._clock.monotonic()
        due = [held for held in self._held.values() if held.renew_at <= now]
        if due:
            for held in due:
                held.renew_at = now + self._provider.timeout_s(held.row.source) / 2
            await self._provider.renew([held.row for held in due])
        self._metrics.held.set(len(self._held))

    def _on_stored(self, container: ContainerRow, files: Sequence[OpenFile]) -> None:
        for file in files:
            held = self._held.pop(file.name, None)
            if held is None:
                continue
            if container.state is ContainerState.STORED:
                self.settle_later(held.row, container.container_id, held.sha256)
            else:
                self._moved.append(held)

    async def _look_again(self) -> None:
        """Ask where files are whose container was replaced by another before this process heard of it."""
        while self._moved:
            held = self._moved[-1]
            info = await self._node.stat(held.row.name)
            self._moved.pop()
            if info.placement is not None:
                self.settle_later(held.row, info.placement.container_id, held.sha256)

    async def _mark(self, name: str, waiting: deque[PackedRow]) -> None:
        """Mark what waits; a source that does not answer keeps its rows for the next time."""
        while waiting:
            batch = [waiting[place] for place in range(min(MARK_BATCH, len(waiting)))]
            settled = await self._provider.mark_packed(name, batch)
            if settled is None:
                return
            for _ in batch:
                waiting.popleft()
            for outcome in ("packed", "gone", "changed", "lost"):
                self._metrics.rows(name, outcome, getattr(settled, outcome))
