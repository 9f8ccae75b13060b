"""Which shipped segments this process answers for, and which open files still need them.

A segment is needed for a shard until the log has let go of every file of that shard in it: the file's
container was stored, and was still stored `log.reclaim_delay_s` later.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from des.db.rows import LogSegmentId, LogSegmentRow
from des.ingest.values import OpenFile


@dataclass(slots=True)
class _Shipment:
    row: LogSegmentRow
    waiting: dict[int, int]
    """Shard to how many of its files the log has not let go."""
    unsealed: int = 0
    """How many of its files are in no stored container."""


class Shipments:
    """The segments, and how far their files are. An open file is counted at the last segment that has it."""

    def __init__(self, holds: Callable[[int], bool]) -> None:
        """Start with none; `holds` tells whether this node owns a shard."""
        self._holds = holds
        self._known: dict[int, _Shipment] = {}
        self._numbers: dict[LogSegmentId, int] = {}
        self._last = 0
        self._changed = False

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, segment: LogSegmentId) -> bool:
        return segment in self._numbers

    def add(self, row: LogSegmentRow, files: Iterable[OpenFile]) -> None:
        """Answer for a recorded segment: `files` of it are open."""
        number = self._numbers.get(row.id)
        if number is None:
            number = self._last = self._numbers[row.id] = self._last + 1
            self._known[number] = _Shipment(row, {})
        shipment = self._known[number]
        for file in files:
            self._let_go(file)
            file.shipment = number
            shipment.waiting[file.shard] = shipment.waiting.get(file.shard, 0) + 1
            shipment.unsealed += 1
        self._changed = True

    def hold(self, file: OpenFile) -> bool:
        """Whether a recorded segment holds the file."""
        return abs(file.shipment) in self._known

    def unsealed_count(self) -> int:
        """Return how many segments have files that are in no stored container."""
        return sum(shipment.unsealed > 0 for shipment in self._known.values())

    def seal(self, files: Iterable[OpenFile]) -> None:
        """Say that a stored container holds these files. Twice is once."""
        for file in files:
            shipment = self._known.get(file.shipment)
            if shipment is not None:
                shipment.unsealed -= 1
                file.shipment = -file.shipment

    def settle(self, files: Iterable[OpenFile]) -> None:
        """Say that the log has let go of these files. Twice is once."""
        for file in files:
            self._let_go(file)

    def due(self) -> list[tuple[LogSegmentRow, list[int]]]:
        """Return the segments that no shard owned here needs any more, with those shards."""
        if not self._changed:
            return []
        due = []
        for shipment in self._known.values():
            own = [shard for shard in shipment.row.shards if self._holds(shard)]
            if own and not any(shipment.waiting.get(shard, 0) for shard in own):
                due.append((shipment.row, own))
        self._changed = bool(due)
        return due

    def forget(self, segments: Iterable[LogSegmentId]) -> None:
        """Answer for these segments no longer."""
        for segment in segments:
            number = self._numbers.pop(segment, None)
            if number is not None:
                del self._known[number]

    def _let_go(self, file: OpenFile) -> None:
        self.seal([file])
        shipment = self._known.get(-file.shipment)
        if shipment is not None:
            shipment.waiting[file.shard] -= 1
            self._changed = True
        file.shipment = 0
