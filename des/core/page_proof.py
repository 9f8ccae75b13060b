"""Proof that HASHPAGES lead to every file of INDEX, for all files at once."""

from collections.abc import Sequence

import numpy as np

from des.core.container_index import ContainerIndex
from des.format.footer import Footer
from des.format.frame import FRAME_HEADER_SIZE
from des.format.hash_pages import (
    FLAGS_MASK,
    LENGTH_CHECK_INDEX,
    OFFSET_MAX,
    PAGE_HEADER_SIZE,
    RECORDS_MAX,
    SLOT_RAW,
    SLOT_SHIFT,
    PagesGeometry,
    record_count,
)
from des.format.index import FLAG_COMPRESSED, FLAG_EXTERNAL
from des.format.layout import Layout
from des.format.name_key import KEY_SIZE, KEY_START, KEY_STOP, name_digest
from des.format.page_plan import RECORD_TYPE, pages_of


def leads_to_all(pages: PagesGeometry, held: Sequence[bytes], index: ContainerIndex, footer: Footer) -> bool:
    """Whether each file has the one record that INDEX asks for, where a reader looks for it.

    False says nothing: a v1 container, names that share a key and numbers that fit no record are for
    `check_all_pages` to look at one by one, as is what is wrong.

    Args:
        pages: where they lie.
        held: each page, proven.
        index: of the same container.
        footer: of the same container.
    """
    counts = np.array([record_count(page) for page in held], np.int64)
    count = len(index)
    if footer.layout is not Layout.FRAMED or not count or int(counts.sum()) != count:
        return False
    parts = [
        np.frombuffer(page, RECORD_TYPE, int(size), PAGE_HEADER_SIZE)
        for page, size in zip(held, counts, strict=True)
    ]
    records = np.concatenate(parts)
    order = np.argsort(records["ordinal"], kind="stable")
    records = records[order]
    if not np.array_equal(records["ordinal"], np.arange(count, dtype=np.uint32)):
        return False
    names, entries = index.table()
    digests = np.frombuffer(b"".join(map(name_digest, names)), np.uint8).reshape(count, -1)
    keys = np.ascontiguousarray(digests[:, KEY_START:KEY_STOP])
    found = np.frombuffer(records["key"].tobytes(), np.uint8).reshape(count, KEY_SIZE)
    hashes = np.ascontiguousarray(keys[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    if not np.array_equal(found, keys) or len(np.unique(keys.view(f"V{KEY_SIZE}"))) != count:
        return False
    page = np.repeat(np.arange(len(held), dtype=np.int64), counts)[order]
    first = pages_of(hashes, pages.page_count)
    spilt = (page == first + 1) & (counts[first] == RECORDS_MAX)
    low, high = records["low"].astype(np.uint64), records["high"].astype(np.uint64)
    offset = (low & np.uint64(OFFSET_MAX)).astype(np.int64)
    length = (low >> np.uint64(48) | (high & np.uint64(0xFFFFFF)) << np.uint64(16)).astype(np.int64)
    flags = (high >> np.uint64(24) & np.uint64(FLAGS_MASK)).astype(np.int64)
    slot = (high >> np.uint64(24 + SLOT_SHIFT)).astype(np.int64)
    external = (flags & FLAG_EXTERNAL) != 0
    name_lengths = np.fromiter(map(len, names), np.int64, count)
    frame = offset + FRAME_HEADER_SIZE
    meta_offset = frame + np.where(external, 0, length) + name_lengths
    meta_length = records["proof"].astype(np.int64)
    wanted = {name: entries[name].astype(np.int64) for name in entries.dtype.names or ()}
    return bool(
        (
            ((page == first) | spilt)
            & (length != LENGTH_CHECK_INDEX)
            & (wanted["data_offset"] == np.where(external, 0, frame))
            & (wanted["data_length"] == length)
            & (wanted["meta_offset"] == meta_offset)
            & (wanted["meta_length"] == meta_length)
            & (wanted["flags"] == flags)
            & (footer.data_start <= offset)
            & (meta_offset + meta_length <= footer.data_stop)
            & (((flags & FLAG_COMPRESSED) != 0) == (slot != SLOT_RAW))
        ).all()
    )
