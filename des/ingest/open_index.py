"""The open index: every file that is in the ingest log and not yet readable from a container.

Filled only after the log's sync (the log calls `publish`), so no reader sees what a power cut can
take back. One event loop owns it; nothing here blocks.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from des.ingest.name_order import NameOrder
from des.ingest.values import OpenFile

ORDER_SLACK: Final = 100_000
"""Names kept in order beyond twice those that are open."""


@dataclass(frozen=True, slots=True)
class BucketCounts:
    """What one (day, shard) holds that no seal has taken yet."""

    day: int
    """UTC day as YYYYMMDD."""
    shard: int
    files: int
    data_bytes: int
    """Uncompressed bytes, those of external files left out: they are not in the container."""
    oldest_ms: int
    """When the oldest of them was appended, UTC milliseconds since 1970."""


class _Bucket:
    __slots__ = ("data_bytes", "files")

    def __init__(self) -> None:
        self.files: list[OpenFile] = []
        self.data_bytes = 0


class OpenIndex:
    """Names to open files, and (day, shard) to the files a seal would take, in log order."""

    def __init__(self) -> None:
        self._by_name: dict[str, OpenFile] = {}
        self._buckets: dict[tuple[int, int], _Bucket] = {}
        self._shard_files: dict[int, int] = {}
        self._shard_bytes: dict[int, int] = {}
        self._day_files: dict[int, int] = {}
        """How many files of each day are open."""
        self._order: dict[int, NameOrder] = {}
        """By day: the names in order, of the days that were listed."""
        self._deleted: set[str] = set()
        """Names that the log has a DELETE of: never shown again, whoever adds them."""
        self._deleted_order: deque[tuple[int, str]] = deque()

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def data_bytes(self) -> int:
        """Bytes of all open files, those being sealed included."""
        return sum(self._shard_bytes.values())

    def get(self, name: str) -> OpenFile | None:
        """Return the open file of that name, if there is one."""
        return self._by_name.get(name)

    def publish(self, batch: Sequence[OpenFile]) -> None:
        """Make files readable and ready to be sealed. The log calls this after their sync."""
        for file in batch:
            self.add(file)
            self._enqueue(file)

    def add(self, file: OpenFile) -> None:
        """Make a file readable without offering it to a seal (one that a pending seal already has)."""
        if file.name in self._deleted:
            return
        self._by_name[file.name] = file
        if self._order and (order := self._order.get(file.day)) is not None:
            order.add(file.name)
            if len(order) > ORDER_SLACK + 2 * len(self._by_name):
                self._order.clear()  # mostly names that are sealed by now, and nobody lists them
        self._day_files[file.day] = self._day_files.get(file.day, 0) + 1
        shard = file.shard
        self._shard_files[shard] = self._shard_files.get(shard, 0) + 1
        self._shard_bytes[shard] = self._shard_bytes.get(shard, 0) + file.size

    def delete(self, name: str, seq: int) -> OpenFile | None:
        """Hide a name for good, by the DELETE record `seq`; return its file if no seal has taken it.

        Such a file is nobody's any more: its record may go. One that a seal has taken stays part of it.
        """
        self._deleted.add(name)
        self._deleted_order.append((seq, name))
        file = self._by_name.get(name)
        if file is None:
            return None
        self.remove([file])
        bucket = self._buckets.get((file.day, file.shard))
        if bucket is None:
            return None
        at = bisect_left(bucket.files, file.seq, key=lambda other: other.seq)
        if at == len(bucket.files) or bucket.files[at] is not file:
            return None
        del bucket.files[at]
        bucket.data_bytes -= _contained_bytes(file)
        return file

    def forget_deletes_before(self, seq: int) -> None:
        """Forget names whose records the log has given up: nobody can add them any more."""
        while self._deleted_order and self._deleted_order[0][0] < seq:
            self._deleted.discard(self._deleted_order.popleft()[1])

    def is_deleted(self, name: str) -> bool:
        """Whether the log has a DELETE of this name."""
        return name in self._deleted

    def _enqueue(self, file: OpenFile) -> None:
        if file.name in self._deleted:
            return
        key = (file.day, file.shard)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket()
        bucket.files.append(file)
        bucket.data_bytes += _contained_bytes(file)

    def take(
        self, day: int, shards: Iterable[int], *, files_max: int, bytes_max: int, stop_seq: int | None = None
    ) -> list[OpenFile]:
        """Hand files of `day` and `shards` to a seal, in log order; they stay readable.

        At least one file is handed out when there is one, however large. With `stop_seq`, only files whose
        records lie before that sequence number.
        """
        waiting: list[OpenFile] = []
        keys = [(day, shard) for shard in shards if (day, shard) in self._buckets]
        for key in keys:
            waiting += self._buckets.pop(key).files
        waiting.sort(key=attrgetter("seq"))
        taken_bytes = 0
        count = 0
        for file in waiting:
            taken_bytes += _contained_bytes(file)
            if count and (count >= files_max or taken_bytes > bytes_max):
                break
            if stop_seq is not None and file.seq >= stop_seq:
                break
            count += 1
        for file in waiting[count:]:
            self._enqueue(file)
        return waiting[:count]

    def put_back(self, files: Sequence[OpenFile]) -> list[OpenFile]:
        """Offer files again that a seal took and gave up before it was logged; return those deleted since."""
        for file in files:
            self._enqueue(file)
        for key in {(file.day, file.shard) for file in files}:
            if key in self._buckets:
                self._buckets[key].files.sort(key=lambda file: file.seq)
        return [file for file in files if file.name in self._deleted]

    def remove(self, files: Iterable[OpenFile]) -> None:
        """Forget files that are now readable from their container."""
        by_name = self._by_name
        gone = [file for file in files if by_name.get(file.name) is file]
        for file in gone:
            del by_name[file.name]
            self._shard_bytes[file.shard] -= file.size
        for shard, count in Counter(map(attrgetter("shard"), gone)).items():
            self._shard_files[shard] -= count
        for day, count in Counter(map(attrgetter("day"), gone)).items():
            self._day_files[day] -= count
            if not self._day_files[day]:
                del self._day_files[day]
                self._order.pop(day, None)

    def days(self) -> list[int]:
        """Return the days of the open files, sorted."""
        return sorted(self._day_files)

    def page(
        self, day: int, accept: Callable[[OpenFile], bool], *, prefix: str, after: str, limit: int
    ) -> list[OpenFile]:
        """Return accepted open files of a day in the order of their names, those that sort after `after`.

        The first page of a day sorts its names; from then on they are kept in order.
        """
        order = self._order.get(day)
        if order is None:
            order = NameOrder(file.name for file in self._by_name.values() if file.day == day)
            if order:
                self._order[day] = order
        return order.page(self._by_name, accept, prefix=prefix, after=after, limit=limit)

    def withdraw(self, shards: Collection[int]) -> list[OpenFile]:
        """Forget all files of `shards`, those being sealed included, and return them in log order."""
        wanted = frozenset(shards)
        for key in [key for key in self._buckets if key[1] in wanted]:
            del self._buckets[key]
        files = [file for file in self._by_name.values() if file.shard in wanted]
        self.remove(files)
        return sorted(files, key=lambda file: file.seq)

    def buckets(self) -> list[BucketCounts]:
        """Return what waits for a seal, by day and shard."""
        return [
            BucketCounts(day, shard, len(bucket.files), bucket.data_bytes, bucket.files[0].time_ms)
            for (day, shard), bucket in sorted(self._buckets.items())
            if bucket.files
        ]

    def shard_counts(self, shard: int) -> tuple[int, int]:
        """Return (files, bytes) of a shard that are open, those being sealed included."""
        return self._shard_files.get(shard, 0), self._shard_bytes.get(shard, 0)


def _contained_bytes(file: OpenFile) -> int:
    return file.size if file.offset else sum([extent.length for extent in file.blocks])
