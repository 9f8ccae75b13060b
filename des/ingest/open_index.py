"""The open index: every file that is in the ingest log and not yet readable from a container.

Filled only after the log's sync (the log calls `publish`), so no reader sees what a power cut can
take back. One event loop owns it; nothing here blocks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from des.ingest.values import OpenFile


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

    def __len__(self) -> int:
        return len(self._by_name)

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
        self._by_name[file.name] = file
        shard = file.shard
        self._shard_files[shard] = self._shard_files.get(shard, 0) + 1
        self._shard_bytes[shard] = self._shard_bytes.get(shard, 0) + file.size

    def _enqueue(self, file: OpenFile) -> None:
        key = (file.day, file.shard)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket()
        bucket.files.append(file)
        bucket.data_bytes += _contained_bytes(file)

    def take(self, day: int, shards: Iterable[int], *, files_max: int, bytes_max: int) -> list[OpenFile]:
        """Hand files of `day` and `shards` to a seal, in log order; they stay readable.

        At least one file is handed out when there is one, however large.
        """
        waiting: list[OpenFile] = []
        keys = [(day, shard) for shard in shards if (day, shard) in self._buckets]
        for key in keys:
            waiting += self._buckets.pop(key).files
        waiting.sort(key=lambda file: file.seq)
        taken_bytes = 0
        count = 0
        for file in waiting:
            taken_bytes += _contained_bytes(file)
            if count and (count >= files_max or taken_bytes > bytes_max):
                break
            count += 1
        for file in waiting[count:]:
            self._enqueue(file)
        return waiting[:count]

    def put_back(self, files: Sequence[OpenFile]) -> None:
        """Offer files again that a seal took and gave up before it was logged."""
        for file in files:
            self._enqueue(file)
        for key in {(file.day, file.shard) for file in files}:
            self._buckets[key].files.sort(key=lambda file: file.seq)

    def remove(self, files: Iterable[OpenFile]) -> None:
        """Forget files that are now readable from their container."""
        for file in files:
            if self._by_name.get(file.name) is not file:
                continue
            del self._by_name[file.name]
            self._shard_files[file.shard] -= 1
            self._shard_bytes[file.shard] -= file.size

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
    return sum(extent.length for extent in file.extents)
