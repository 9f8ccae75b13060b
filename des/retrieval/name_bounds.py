"""Which containers may have the names of a page, as far as their rows in the catalog say."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from des.db.catalog import ContainerRow


class Candidate(NamedTuple):
    """A container that may have names of a listing."""

    row: ContainerRow
    low: str
    """No such name of it comes before this."""
    high: str
    """No such name of it comes behind this."""


def candidates(
    rows: Iterable[ContainerRow], *, prefix: str, day: str, after: str, wrap_bits: int
) -> list[Candidate]:
    """Return the containers that may have names with `prefix` behind `after`, by their lowest."""
    found = []
    for row in rows:
        low, high = _by_time(row, prefix, day, wrap_bits)
        if row.name_first:
            low, high = max(low, row.name_first), min(high, row.name_last)
            if not row.name_first[: len(prefix)] <= prefix <= row.name_last:
                continue
        if low <= high and after < high:
            found.append(Candidate(row, low, high))
    return sorted(found, key=lambda one: one.low)


def count_together(found: Sequence[Candidate], limit: int) -> int:
    """Return how many of the first candidates a page of `limit` names may reach.

    One is out of reach when the containers that end before it begins have enough names by themselves.
    Names that are left out (deleted, of other shards, before the page) make the page reach further than
    said here: the answer is for reading ahead, and no more.
    """
    ended = sorted((one.high, one.row.geometry.file_count) for one in found)
    before = at = 0
    for count, one in enumerate(found):
        while ended[at][0] < one.low:  # its own end does not lie before its beginning
            before += ended[at][1]
            at += 1
        if before >= limit:
            return count
    return len(found)


def _by_time(row: ContainerRow, prefix: str, day: str, wrap_bits: int) -> tuple[str, str]:
    """Return texts before and behind every name of DES that a container has and that starts with `prefix`.

    Names of one prefix sort by the time in them, unless its counter starts over within the container.
    """
    kind, found, _ = prefix.partition("_")
    mask = (1 << wrap_bits) - 1
    first, last = row.name_ms_first & mask, row.name_ms_last & mask
    if not found or row.name_ms_last - row.name_ms_first > mask or first > last:
        return "", BEHIND_ALL
    return f"{kind}_{day}_({first:08X}", f"{kind}_{day}_({last:08X}FFFF~"


BEHIND_ALL: Final = "~"
"""Sorts behind every name: prefixes are letters and digits."""
