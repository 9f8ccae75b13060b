"""Gathers what EXT says of a container while its files are written (docs/format.md, section 13)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct, pack
from typing import Any, Final
from uuid import UUID

import google_crc32c
import numpy as np
import numpy.typing as npt

from des.core.sink import Sink
from des.format.block_crc import FLAG_ROOT, BlockCrc
from des.format.ext import Ext, NewSection, encode_ext, read_ext, section_order
from des.format.ext_trailer import TRAILER_SIZE, Feature
from des.format.footer import FOOTER_SIZE, Footer
from des.format.fuse_filter import build_filter
from des.format.hash_pages import PAGE_SIZE, SLOT_RAW
from des.format.index import FLAG_COMPRESSED, FLAG_EXTERNAL
from des.format.index_directory import GROUP_SIZE, encode_directory, group_count
from des.format.name_key import key_of
from des.format.names import encode_names
from des.format.page_plan import encode_records, plan_pages
from des.format.plan import TAIL_SIZE, run
from des.format.section_table import SectionKind
from des.format.stats import Stats

PAGES_LAST_MAX: Final = TAIL_SIZE - (1 << 13)
"""Bytes of HASHPAGES that go last, so that the first read of a stranger holds them with all behind them."""


NO_FEATURES: Final = Feature(0)

# key 12 bytes | offset u64 | length u64 | raw_length u64 | proof u32 | flags u8 | slot u8
_ROW: Final = Struct("<12sQQQIBB")
_ROW_TYPE: Final = np.dtype(
    [
        ("key", "V12"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("raw_length", "<u8"),
        ("proof", "<u4"),
        ("flags", "u1"),
        ("slot", "u1"),
    ]
)
assert _ROW_TYPE.itemsize == _ROW.size

_POWERS: Final = np.array([1 << bits for bits in range(64)], dtype=np.uint64)


class ExtBuilder:
    """Takes every file's place as it is written; makes EXT when all are."""

    def __init__(self, features: Feature = NO_FEATURES) -> None:
        """Start, with features that nothing added will show."""
        self._rows = bytearray()
        self._group_starts: list[int] = []
        self._meta_starts: list[int] = []
        self._count = 0
        self._features = features

    def add(
        self,
        digest: bytes,
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
        if self._count % GROUP_SIZE == 0:
            self._group_starts.append(index_position)
            self._meta_starts.append(meta_position)
        self._count += 1
        self._rows += _ROW.pack(
            key_of(digest), offset, length, length if raw_length is None else raw_length, proof, flags, slot
        )

    def add_many(
        self,
        places: npt.NDArray[Any],
        *,
        index_positions: npt.NDArray[np.int64],
        meta_positions: npt.NDArray[np.int64],
    ) -> None:
        """Take files as `add` does, one row each: key, start, data_length, raw_length, proof, flags, slot."""
        first = -self._count % GROUP_SIZE
        self._group_starts += index_positions[first::GROUP_SIZE].tolist()
        self._meta_starts += meta_positions[first::GROUP_SIZE].tolist()
        self._count += len(places)
        rows = np.empty(len(places), _ROW_TYPE)
        rows["offset"], rows["length"] = places["start"], places["data_length"]
        for field in ("key", "raw_length", "proof", "flags", "slot"):
            rows[field] = places[field]
        self._rows += rows.tobytes()

    def finish(
        self,
        footer: Footer,
        names: Sequence[bytes],
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
        rows = np.frombuffer(self._rows, _ROW_TYPE)
        features = self._features
        if (rows["flags"] & FLAG_COMPRESSED).any():
            features |= Feature.COMPRESSED
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
        stats = _stats(rows, names)
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
        pages = plan_pages(encode_records(rows))
        if pages is not None:
            pages_last = pages.written_count * PAGE_SIZE <= PAGES_LAST_MAX
            fuse_filter = build_filter(_distinct(pages.hashes))
            if fuse_filter is not None:
                sections.insert(1, NewSection(SectionKind.FILTER, [fuse_filter.encode()], count=self._count))
            sections.append(
                NewSection(
                    SectionKind.HASHPAGES, pages.pages(uuid), count=self._count, param=pages.page_count
                )
            )
        return encode_ext(
            section_order(sections, pages_last=pages_last), footer=footer, uuid=uuid, features=features
        )


def write_ext(sink: Sink, parts: Iterable[bytes], footer: Footer) -> tuple[Ext, str]:
    """Write EXT to a sink that has all before it, and read its end as a stranger would.

    Returns what the end says, and the SHA-256 of EXT and FOOTER, in hexadecimal.
    """
    digest = hashlib.sha256()
    end = [b"", b""]
    for part in parts:
        digest.update(part)
        sink.write(part)
        end = [end[1], part]
    digest.update(footer.encode())
    table_start = sink.size - TRAILER_SIZE - len(end[0])
    ext = run(read_ext(sink.size + FOOTER_SIZE, table_start, footer), lambda _: b"".join(end))
    return ext, digest.hexdigest()


def _stats(rows: npt.NDArray[Any], names: Sequence[bytes]) -> Stats:
    external = (rows["flags"] & FLAG_EXTERNAL) != 0
    raw_lengths = rows["raw_length"]
    # Of each length how many bits it has, exactly: the first power of two above it.
    bits = np.searchsorted(_POWERS, raw_lengths, side="right")
    counts = np.bincount(bits)
    return Stats(
        files=len(rows),
        external_files=int(external.sum()),
        data_bytes=_sum(raw_lengths),
        stored_bytes=_sum(rows["length"][~external]),
        name_first=names[0].decode() if names else "",
        name_last=names[-1].decode() if names else "",
        sizes={str(bits): int(count) for bits, count in enumerate(counts) if count},
    )


def _distinct(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return sorted hashes, each once."""
    return hashes[np.append(True, hashes[1:] != hashes[:-1])] if len(hashes) else hashes


def _sum(numbers: npt.NDArray[np.uint64]) -> int:
    """Return the sum; unlike numpy's it does not wrap at 64 bits."""
    halves = numbers >> np.uint64(32), numbers & np.uint64(0xFFFFFFFF)
    return (int(halves[0].sum()) << 32) + int(halves[1].sum())


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
