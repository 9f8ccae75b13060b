"""The open index hands each file to one seal and keeps it readable until it is stored."""

from des.ingest.open_index import OpenIndex
from des.ingest.values import Extent, OpenFile

DAY = 20261123


def file(seq: int, *, shard: int = 0, size: int = 10, day: int = DAY) -> OpenFile:
    return OpenFile(
        name=f"f{seq}", day=day, shard=shard, seq=seq, time_ms=seq, size=size, crc32c=0, facts=b"",
        segment=1, offset=100,
    )  # fmt: skip


def index_of(*files: OpenFile) -> OpenIndex:
    index = OpenIndex()
    index.publish(files)
    return index


def test_a_seal_takes_files_in_log_order_across_shards() -> None:
    files = [file(1, shard=3), file(2, shard=0), file(3, shard=3)]
    index = index_of(*files)
    assert index.take(DAY, range(4), files_max=10, bytes_max=1000) == files
    assert index.take(DAY, range(4), files_max=10, bytes_max=1000) == []
    assert index.buckets() == []
    assert index.get("f1") is files[0]


def test_a_seal_takes_no_more_than_asked_but_always_one() -> None:
    index = index_of(file(1, size=500), file(2, size=500), file(3, size=1))
    assert [taken.seq for taken in index.take(DAY, [0], files_max=10, bytes_max=100)] == [1]
    assert [taken.seq for taken in index.take(DAY, [0], files_max=1, bytes_max=10_000)] == [2]
    assert [taken.seq for taken in index.take(DAY, [0], files_max=1, bytes_max=10_000)] == [3]


def test_files_put_back_are_offered_again_in_order() -> None:
    index = index_of(file(1), file(2))
    taken = index.take(DAY, [0], files_max=10, bytes_max=1000)
    index.publish([file(3)])
    index.put_back(taken)
    assert [again.seq for again in index.take(DAY, [0], files_max=10, bytes_max=1000)] == [1, 2, 3]


def test_counts_follow_the_files_until_they_are_removed() -> None:
    files = [file(1), file(2, shard=5)]
    index = index_of(*files)
    assert index.shard_counts(0) == (1, 10)
    taken = index.take(DAY, [0], files_max=10, bytes_max=1000)
    assert index.shard_counts(0) == (1, 10)
    index.remove(taken)
    assert index.shard_counts(0) == (0, 0)
    assert index.shard_counts(5) == (1, 10)
    assert index.get("f1") is None
    assert len(index) == 1


def test_external_bytes_do_not_make_a_container_large() -> None:
    external = OpenFile(
        name="big", day=DAY, shard=0, seq=1, time_ms=1, size=10**9, crc32c=0, facts=b"", segment=1, offset=0
    )
    streamed = OpenFile(
        name="s", day=DAY, shard=0, seq=2, time_ms=2, size=30, crc32c=0, facts=b"", segment=1, offset=0,
        blocks=(Extent(1, 5, 20, 0), Extent(1, 50, 10, 0)),
    )  # fmt: skip
    index = index_of(external, streamed)
    assert [counts.data_bytes for counts in index.buckets()] == [30]
