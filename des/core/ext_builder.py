"""Gathers what EXT says of a container while its files are written (docs/format.md, section 13)."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from struct import pack
from typing import Final
from uuid import UUID

import google_crc32c
import numpy as np

from des.core.sink import Sink
from des.format.block_crc import FLAG_ROOT, BlockCrc
from des.format.ext import Ext, NewSection, encode_ext, read_ext, section_order
from des.format.ext_trailer import TRAILER_SIZE, Feature
from des.format.footer import FOOTER_SIZE, Footer
from des.format.fuse_filter import build_filter
from des.format.hash_pages import PAGE_SIZE, SLOT_RAW, encode_record, plan_pages
from des.format.index import FLAG_COMPRESSED, FLAG_EXTERNAL
from des.format.index_directory import GROUP_SIZE, encode_directory, group_count
from des.format.name_key import key_of
from des.format.names import encode_names
from des.format.plan import TAIL_SIZE, run
from des.format.section_table import SectionKind
from des.format.stats import Stats

PAGES_LAST_MAX: Final = TAIL_SIZE - (1 << 13)
"""Bytes of HASHPAGES that go last, so that the first read of a stranger holds them with all behind them."""


NO_FEATURES: Final = Feature(0)


class ExtBuilder:
    """Takes every file's place as it is written; makes EXT when all are."""

    def __init__(self, features: Feature = NO_FEATURES) -> None:
        """Start, with features that nothing added will show."""
        self._records = bytearray()
        self._group_starts: list[int] = []
        self._meta_starts: list[int] = []
        self._count = 0
        self._features = features
        self._external = 0
        self._data_bytes = 0
        self._stored_bytes = 0
        self._sizes: Counter[int] = Counter()

    def add(
        self,
        digest: bytes,
        *,
        offset: int,
        length: int,
        flags: int,
        proof: int,
        index_position: int,
        meta_position: int,
        slot: int = SLOT_RAW,
        raw_length: int | None = None,
    ) -> None:
        """Take one file; the fields are those of `hash_pages.Record`, the positions those of its entry.

        `raw_length` is the file's length where it is not `length`.
        """
        if flags & FLAG_COMPRESSED:
            self._features |= Feature.COMPRESSED
        raw_length = length if raw_length is None else raw_length
        if self._count % GROUP_SIZE == 0:
            self._group_starts.append(index_position)
            self._meta_starts.append(meta_position)
        self._records += encode_record(key_of(digest), offset, length, flags, proof, self._count, slot)
        self._count += 1
        self._data_bytes += raw_length
        self._sizes[raw_length.bit_length()] += 1
        if flags & FLAG_EXTERNAL:
            self._external += 1
        else:
            self._stored_bytes += length

    def finish(
        self,
        footer: Footer,
        names: list[str],
        *,
        index: bytes,
        meta: bytes,
        checksums: tuple[tuple[int, ...], bytes | None] | None,
        container_id: UUID | None,
    ) -> Iterator[bytes]:
        """Return EXT's bytes in parts; the last two are the section table and the trailer.

        Args:
            footer: the container's.
            names: every name, sorted.
            index: INDEX.
            meta: META; empty when framed.
            checksums: of the bytes before EXT; None where nobody read them, and there is no BLOCKCRC.
            container_id: the container's id; None to derive one from the bytes before EXT.
        """
        block_crc = BlockCrc((), None) if checksums is None else BlockCrc(*checksums)
        uuid = _content_uuid(footer, index, block_crc) if container_id is None else container_id.bytes
        meta_stops = [*self._meta_starts, len(meta)][1:]
        directory = encode_directory(
            index,
            self._group_starts,
            [google_crc32c.value(meta[a:b]) for a, b in zip(self._meta_starts, meta_stops, strict=True)]
            if meta
            else [],
        )
        stats = Stats(
            files=self._count,
            external_files=self._external,
            data_bytes=self._data_bytes,
            stored_bytes=self._stored_bytes,
            name_first=names[0] if names else "",
            name_last=names[-1] if names else "",
            sizes={str(bits): count for bits, count in sorted(self._sizes.items())},
        )
        names_parts = list(encode_names(names))
        sections = [
            NewSection(
                SectionKind.NAMES,
                names_parts,
                count=len(names),
                param=len(names_parts[-1]) if names_parts else 0,
            ),
            NewSection(SectionKind.INDEXDIR, [directory], count=group_count(self._count), param=GROUP_SIZE),
            NewSection(SectionKind.STATS, [stats.encode()]),
        ]
        if checksums is not None:
            blocks = NewSection(
                SectionKind.BLOCKCRC,
                [block_crc.encode()],
                count=len(block_crc.crc32c),
                flags=0 if block_crc.root is None else FLAG_ROOT,
            )
            sections.insert(2, blocks)
        pages_last = True
        pages = plan_pages(self._records)
        if pages is not None:
            pages_last = pages.written_count * PAGE_SIZE <= PAGES_LAST_MAX
            fuse_filter = build_filter(np.unique(pages.hashes))
            if fuse_filter is not None:
                sections.insert(1, NewSection(SectionKind.FILTER, [fuse_filter.encode()], count=self._count))
            sections.append(
                NewSection(
                    SectionKind.HASHPAGES, pages.pages(uuid), count=self._count, param=pages.page_count
                )
            )
        return encode_ext(
            section_order(sections, pages_last=pages_last), footer=footer, uuid=uuid, features=self._features
        )


def write_ext(sink: Sink, parts: Iterable[bytes], footer: Footer) -> Ext:
    """Write EXT to a sink that has all before it, and read its end as a stranger would."""
    end = [b"", b""]
    for part in parts:
        sink.write(part)
        end = [end[1], part]
    table_start = sink.size - TRAILER_SIZE - len(end[0])
    return run(read_ext(sink.size + FOOTER_SIZE, table_start, footer), lambda _: b"".join(end))


def _content_uuid(footer: Footer, index: bytes, block_crc: BlockCrc) -> bytes:
    """Return a UUIDv8 (RFC 9562 §5.8) of the bytes before EXT: the same files give the same container."""
    digest = hashlib.sha256(b"DES container")
    digest.update(footer.encode())
    digest.update(index)
    digest.update(pack(f"<{len(block_crc.crc32c)}I", *block_crc.crc32c))
    value = bytearray(digest.digest()[:16])
    value[6] = value[6] & 0x0F | 0x80
    value[8] = value[8] & 0x3F | 0x80
    return bytes(value)
