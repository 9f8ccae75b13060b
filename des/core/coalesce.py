"""Joins the ranges of many files into few requests, and cuts the files out again."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from des.format.byte_range import ByteRange

Place = TypeVar("Place", bound=tuple[Any, ...])
"""Starts with its first byte and the one past its last."""


def join_ranges(ranges: Iterable[ByteRange], *, gap: int, size_max: int) -> list[ByteRange]:
    """Return sorted ranges that cover `ranges`; each of them lies whole in one of the result.

    Neighbours at most `gap` bytes apart are joined, as long as the result has at most `size_max` bytes.

    >>> join_ranges([ByteRange(90, 95), ByteRange(0, 10), ByteRange(12, 20)], gap=4, size_max=100)
    [ByteRange(start=0, stop=20), ByteRange(start=90, stop=95)]
    """
    joined: list[ByteRange] = []
    for wanted in sorted(ranges, key=lambda wanted: (wanted.start, -wanted.stop)):
        last = joined[-1] if joined else None
        if last is not None and wanted.stop <= last.stop:
            continue
        if last is not None and wanted.start - last.stop <= gap and wanted.stop - last.start <= size_max:
            joined[-1] = ByteRange(last.start, wanted.stop)
        else:
            joined.append(wanted)
    return joined


def joined(places: Iterable[Place], *, gap: int, size_max: int) -> Iterator[list[Place]]:
    """Yield runs of sorted places that one read brings: at most `gap` bytes apart, `size_max` together.

    As `join_ranges` joins them, with no object made for any.

    >>> list(joined([(0, 10, "a"), (12, 20, "b"), (90, 95, "c")], gap=4, size_max=100))
    [[(0, 10, 'a'), (12, 20, 'b')], [(90, 95, 'c')]]
    """
    group: list[Place] = []
    first = last = 0
    for place in places:
        low, high = place[0], place[1]
        if group and (low - last > gap or high - first > size_max):
            yield group
            group = []
        if not group:
            first, last = low, high
        group.append(place)
        last = max(last, high)
    if group:
        yield group


class FetchedRanges:
    """Bytes of joined ranges, out of which a plan's smaller ranges are served."""

    def __init__(self, joined: Sequence[ByteRange], fetched: Mapping[ByteRange, bytes | Exception]) -> None:
        self._joined = joined
        self._starts = [group.start for group in joined]
        self._fetched = fetched

    def read(self, wanted: ByteRange) -> bytes | None:
        """Return a range's bytes, or raise what its request raised; None where no joined one holds it."""
        group = self._joined[bisect_right(self._starts, wanted.start) - 1]
        if not group.start <= wanted.start < wanted.stop <= group.stop:
            return None
        data = self._fetched[group]
        if isinstance(data, Exception):
            raise data
        return data[wanted.start - group.start : wanted.stop - group.start]
