"""Making HASHPAGES: into which page each record goes, and the pages' bytes (docs/format.md, section 14)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from des.format.hash_pages import (
    LENGTH_CHECK_INDEX,
    MAGIC,
    OFFSET_MAX,
    PAGE_COUNT_MAX,
    PAGE_HEADER_SIZE,
    PAGE_SIZE,
    RECORD_SIZE,
    RECORDS_MAX,
    SEAL,
    SLOT_RAW,
    SLOT_SHIFT,
    decode_record,
    encode_record,
)
from des.format.name_key import KEY_SIZE

FILL: Final = 0.9
"""Share of the records in a page that its files take on average. At 10 million files the most that
spill over one page's end is then half of what the next page takes."""
_PAGES_GROWN: Final = 4
"""Times the first estimate of pages that a writer goes to; names that need more were made to collide."""
_BUILD_PAGES: Final = 1 << 12
"""Pages built at once, which bounds memory."""

RECORD_TYPE: Final = np.dtype(
    [("key", "V12"), ("low", "<u8"), ("high", "<u4"), ("proof", "<u4"), ("ordinal", "<u4")]
)
"""Of numpy: `_RECORD`."""
assert RECORD_TYPE.itemsize == RECORD_SIZE
_HEADER_TYPE: Final = np.dtype(
    [("magic", "S4"), ("page", "<u4"), ("count", "<u2"), ("flags", "<u2"), ("uuid", "<u8"), ("zero", "<u8")]
)
assert _HEADER_TYPE.itemsize == PAGE_HEADER_SIZE


def encode_records(rows: npt.NDArray[Any]) -> bytes:
    """Return the records of many files, as `encode_record` would make them one by one.

    `rows` has the fields key, offset, length, flags, proof and slot; a row's number is its ordinal.
    """
    length = rows["length"].astype(np.uint64)
    offset = rows["offset"].astype(np.uint64)
    misfit = (length >= LENGTH_CHECK_INDEX) | (offset > OFFSET_MAX)
    length[misfit] = LENGTH_CHECK_INDEX
    offset[misfit] = 0
    slot = np.where(misfit, SLOT_RAW, rows["slot"]).astype(np.uint32)
    records = np.empty(len(rows), RECORD_TYPE)
    records["key"] = rows["key"]
    records["low"] = offset | (length & np.uint64(0xFFFF)) << np.uint64(48)
    records["high"] = (length >> np.uint64(16)).astype(np.uint32)
    records["high"] |= (rows["flags"].astype(np.uint32) | slot << np.uint32(SLOT_SHIFT)) << np.uint32(24)
    records["proof"] = np.where(misfit, 0, rows["proof"])
    records["ordinal"] = np.arange(len(rows), dtype=np.uint32)
    return records.tobytes()


@dataclass(frozen=True, slots=True)
class PagePlan:
    """In which page each record goes."""

    records: npt.NDArray[np.uint8]
    """One row of 32 bytes for each record, in the order they were added."""
    order: npt.NDArray[np.int64]
    """Rows in the order of their keys."""
    places: npt.NDArray[np.int64]
    """For each of them, in that order: page * 127 + place in the page."""
    hashes: npt.NDArray[np.uint64]
    """The records' hashes, in that order."""
    page_count: int
    written_count: int

    def pages(self, uuid: bytes) -> Iterator[bytes]:
        """Yield the pages' bytes, many pages at a time."""
        starts = np.searchsorted(
            self.places, np.arange(0, self.written_count + 1, dtype=np.int64) * RECORDS_MAX
        )
        uuid_low = int.from_bytes(uuid[8:], "little")
        for first in range(0, self.written_count, _BUILD_PAGES):
            stop = min(first + _BUILD_PAGES, self.written_count)
            built = np.zeros((stop - first, PAGE_SIZE), np.uint8)
            header = np.zeros(stop - first, _HEADER_TYPE)
            header["magic"] = MAGIC
            header["page"] = np.arange(first, stop)
            header["count"] = np.diff(starts[first : stop + 1])
            header["uuid"] = uuid_low
            built[:, :PAGE_HEADER_SIZE] = header.view(np.uint8).reshape(-1, PAGE_HEADER_SIZE)
            rows = slice(int(starts[first]), int(starts[stop]))
            page, slot = np.divmod(self.places[rows], RECORDS_MAX)
            inside = built[:, PAGE_HEADER_SIZE : -SEAL.size].reshape(-1, RECORDS_MAX, RECORD_SIZE)
            inside[page - first, slot] = self.records[self.order[rows]]
            encoded = built.tobytes()
            for start in range(0, len(encoded), PAGE_SIZE):
                page_bytes = encoded[start : start + PAGE_SIZE - SEAL.size]
                crc32c = google_crc32c.value(page_bytes)
                built[start // PAGE_SIZE, -SEAL.size :] = np.frombuffer(SEAL.pack(crc32c), np.uint8)
            yield built.tobytes()


def plan_pages(encoded: bytes | bytearray, page_count: int | None = None) -> PagePlan | None:
    """Place records (32 bytes each) into pages; mark those whose keys collide for a look into INDEX.

    Returns None where no reasonable number of pages holds them: names made to collide. Such a container
    has no HASHPAGES, and is read through INDEX.
    """
    records = np.frombuffer(bytes(encoded), np.uint8).reshape(-1, RECORD_SIZE)
    hashes = np.ascontiguousarray(records[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    records, order = _settle_collisions(records, order, hashes)
    count = page_count or max(1, -int(-len(records) // (RECORDS_MAX * FILL)))
    largest = _PAGES_GROWN * count
    while count <= min(largest, PAGE_COUNT_MAX):
        page = pages_of(hashes, count)
        row = np.arange(len(hashes), dtype=np.int64)
        places = row + np.maximum.accumulate(RECORDS_MAX * page - row) if len(row) else row
        if (places // RECORDS_MAX <= page + 1).all():
            last = int(places[-1]) // RECORDS_MAX if len(places) else 0
            return PagePlan(records, order, places, hashes, count, max(count, last + 1))
        count += count // 16 + 1
    return None


def pages_of(hashes: npt.NDArray[np.uint64], page_count: int) -> npt.NDArray[np.int64]:
    """Return `hash * page_count >> 64` of each, without numbers of 128 bits."""
    return scale(hashes, page_count).astype(np.int64)


def scale(hashes: npt.NDArray[np.uint64], parts: int) -> npt.NDArray[np.uint64]:
    """Return `hash * parts >> 64` of each hash, for `parts` below 2**32."""
    wide = np.uint64(parts)
    half = np.uint64(32)
    low = (hashes & np.uint64(0xFFFFFFFF)) * wide >> half
    scaled: npt.NDArray[np.uint64] = ((hashes >> half) * wide + low) >> half
    return scaled


def _settle_collisions(
    records: npt.NDArray[np.uint8], order: npt.NDArray[Any], hashes: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Mark records that share a whole key: their names stand in INDEX only."""
    doubled = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(doubled):
        return records, order
    near = np.unique(np.concatenate([doubled, doubled + 1]))
    keys: dict[bytes, list[int]] = {}
    for place in near:
        row = int(order[place])
        keys.setdefault(records[row, :KEY_SIZE].tobytes(), []).append(row)
    marked = records.copy()
    for rows in keys.values():
        for row in rows if len(rows) > 1 else ():
            record = decode_record(marked[row].tobytes(), 0)
            key = marked[row, :KEY_SIZE].tobytes()
            mark = encode_record(key, 0, LENGTH_CHECK_INDEX, record.flags, 0, record.ordinal)
            marked[row] = np.frombuffer(mark, np.uint8)
    return marked, order
