"""The gate between writes and hand-overs: a shard moves only while no write to it is under way."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from types import TracebackType

from des.cluster.errors import OUTCOME, UNKNOWN, not_shard_owner


class WriteGate:
    """Counts the writes under way, shard by shard, and holds new ones back where it is closed."""

    def __init__(
        self,
        tenure: Callable[[int], int | None],
        why: Callable[[int], str],
        check_named: Callable[[int, int], None],
    ) -> None:
        """Open for the shards of this node.

        Args:
            tenure: the epoch in which this node owns a shard now; None where it does not.
            why: what is known about the owner of another shard.
            check_named: refuses, for a shard, a name that is too late for it.
        """
        self.check_named = check_named
        self.tenure = tenure
        self.why = why
        self.under_way: Counter[int] = Counter()
        self._closed: dict[int, asyncio.Future[None]] = {}
        self._idle: asyncio.Event = asyncio.Event()

    def close(self, shards: Collection[int]) -> None:
        """Hold back new writes of these shards until `open`."""
        for shard in shards:
            if shard not in self._closed:
                self._closed[shard] = asyncio.get_running_loop().create_future()

    def open(self, shards: Collection[int]) -> None:
        """Let those go on who wait, to the shard or to the answer that it is another node's now."""
        for shard in shards:
            if (waiting := self._closed.pop(shard, None)) is not None:
                waiting.set_result(None)

    async def wait_idle(self, shards: Collection[int]) -> None:
        """Return when no write to one of these shards is under way."""
        while any(self.under_way[shard] for shard in shards):
            self._idle.clear()
            await self._idle.wait()

    async def enter(self, shards: Collection[int], *, named_ms: int) -> list[tuple[int, int]]:
        """Wait until all shards are open, count a write in and return their tenures.

        Raises:
            NotShardOwnerError: one is another node's.
            NameAheadError: `named_ms`, the latest time in a name of the write's files, is too late.
        """
        while (closed := next((self._closed[s] for s in shards if s in self._closed), None)) is not None:
            await asyncio.shield(closed)
        entered: list[tuple[int, int]] = []
        for shard in shards:
            if (tenure := self.tenure(shard)) is None:
                raise not_shard_owner(shard, self.why(shard))
            self.check_named(shard, named_ms)
            entered.append((shard, tenure))
        self.under_way.update(shards)
        return entered

    def leave(self, shards: Collection[int]) -> None:
        """Count a write out."""
        for shard in shards:
            self.under_way[shard] -= 1
            if not self.under_way[shard]:
                del self.under_way[shard]
        self._idle.set()


class Writing:
    """One write: see `Shards.writing`."""

    __slots__ = ("_entered", "_gate", "_named_ms", "_shards")

    def __init__(self, gate: WriteGate, shards: Collection[int], *, named_ms: int) -> None:
        self._named_ms = named_ms
        self._gate = gate
        self._shards = shards
        self._entered: list[tuple[int, int]] = []

    async def __aenter__(self) -> None:
        self._entered = await self._gate.enter(self._shards, named_ms=self._named_ms)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.leave(self._shards)
        if error is not None:
            return
        for shard, tenure in self._entered:
            if self._gate.tenure(shard) != tenure:
                error = not_shard_owner(
                    shard,
                    f"was lost during the write, of which the outcome is unknown; it {self._gate.why(shard)}",
                )
                error.details[OUTCOME] = UNKNOWN
                raise error
