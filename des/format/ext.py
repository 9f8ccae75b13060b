"""EXT as a whole: sections, their table and the trailer (docs/format.md, section 13)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.errors import UnsupportedContainerError
from des.format.ext_trailer import TRAILER_SIZE, BadTrailerError, ExtTrailer, Feature, is_trailer
from des.format.footer import FOOTER_SIZE, BadFooterError, Footer
from des.format.hash_pages import PagesGeometry
from des.format.header import HEADER_SIZE, check_header
from des.format.layout import Layout
from des.format.plan import TAIL_SIZE, Reads
from des.format.section_table import BadSectionError, Section, SectionKind, decode_table, encode_table

_FRAMED: Final = int(Feature.FRAMED)
"""A plain number: flags of the enum's kind cost every opening 5 us."""
SECTION_READ_MAX: Final = 1 << 30
"""Bytes of a section that is read whole into memory."""


@dataclass(frozen=True, slots=True)
class Ext:
    """What the end of a container says about its EXT."""

    trailer: ExtTrailer
    sections: tuple[Section, ...]

    @property
    def uuid(self) -> bytes:
        """The container's id, 16 bytes."""
        return self.trailer.uuid

    def section(self, kind: SectionKind) -> Section | None:
        """Return the section of a kind; None when the container has none. ZDICT may stand often."""
        return next((section for section in self.sections if section.kind == kind), None)


@dataclass(frozen=True, slots=True)
class ExtGeometry:
    """All that is needed to find a file by name: columns of a catalog, or what the container's end says."""

    table_start: int
    """First byte of the section table."""
    pages: PagesGeometry

    @classmethod
    def of(cls, ext: Ext | None, footer: Footer) -> "ExtGeometry | None":
        """Return the geometry of an opened container; None where it has no HASHPAGES.

        Raises:
            BadPageError: the section's length contradicts its number of pages.
            BadSectionError: it is not of as many files as there are.
        """
        section = None if ext is None else ext.section(SectionKind.HASHPAGES)
        if ext is None or section is None:
            return None
        if section.count != footer.file_count:
            raise BadSectionError(
                f"HASHPAGES is of {section.count} files, the footer says {footer.file_count}"
            )
        pages = PagesGeometry(ext.uuid, section.start, section.length, section.param)
        return cls(ext.trailer.table_start, pages)


@dataclass(frozen=True, slots=True)
class NewSection:
    """A section to be written."""

    kind: SectionKind
    parts: Iterable[bytes]
    """Its bytes, in order; consumed once."""
    count: int = 0
    param: int = 0
    codec: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class OpenedContainer:
    """What one read of a container's end brings."""

    size: int
    """Bytes of the container."""
    footer: Footer
    ext: Ext | None
    """None where the container is a plain v1 archive."""
    tail_start: int
    tail: bytes
    """The bytes `[tail_start, size)`."""


def encode_ext(
    sections: Iterable[NewSection], *, footer: Footer, uuid: bytes, features: int = 0
) -> Iterator[bytes]:
    """Yield EXT's bytes: `sections` in order, the table, the trailer; the footer follows them.

    FRAMED is added to `features` where the footer says so.
    """
    start = footer.index_stop
    written: list[Section] = []
    for section in sections:
        length = crc32c = 0
        for part in section.parts:
            length += len(part)
            crc32c = google_crc32c.extend(crc32c, part)
            yield part
        written.append(
            Section(
                kind=section.kind,
                codec=section.codec,
                flags=section.flags,
                start=start,
                length=length,
                count=section.count,
                crc32c=crc32c,
                param=section.param,
            )
        )
        start += length
    table = encode_table(written)
    yield table
    trailer = ExtTrailer(
        features=features | (Feature.FRAMED if footer.layout is Layout.FRAMED else 0),
        uuid=uuid,
        ext_start=footer.index_stop,
        table_start=start,
        section_count=len(written),
        table_crc32c=google_crc32c.value(table),
        footer_crc32c=google_crc32c.value(footer.encode()),
    )
    yield trailer.encode()


def open_end(size: int, *, tail_size: int = TAIL_SIZE, tail: bytes | None = None) -> Reads[OpenedContainer]:
    """Plan the reads that fetch footer, trailer and section table of a container of `size` bytes.

    One read when the table lies in the tail, as it does with the default `tail_size`; otherwise two. None
    where the caller has the `tail` already. The header is checked when the tail has it.

    Raises:
        BadFooterError: the container is too short, or its footer points outside it.
        BadHeaderError: the container does not start as one.
        CorruptContainerError: EXT is damaged.
        UnsupportedContainerError: EXT needs a feature that is not known.
    """
    if size < HEADER_SIZE + FOOTER_SIZE:
        raise BadFooterError(f"container has {size} bytes, fewer than header and footer")
    if tail is None:
        tail = yield ByteRange(max(0, size - max(tail_size, TRAILER_SIZE + FOOTER_SIZE)), size)
    tail_start = size - len(tail)
    footer = Footer.decode(tail[-FOOTER_SIZE:])
    footer.check(size)
    if tail_start == 0:
        check_header(tail[:HEADER_SIZE])
    ext = None
    trailer_start = size - FOOTER_SIZE - TRAILER_SIZE
    trailer_bytes = tail[-FOOTER_SIZE - TRAILER_SIZE : -FOOTER_SIZE]
    if footer.index_stop <= trailer_start and is_trailer(trailer_bytes):
        trailer = ExtTrailer.decode(trailer_bytes)
        trailer.check(size=size, index_stop=footer.index_stop, footer=tail[-FOOTER_SIZE:])
        _check_layout(trailer, footer.layout)
        table = b""
        if trailer.table_start >= tail_start:
            table = tail[trailer.table_start - tail_start : trailer_start - tail_start]
        elif trailer.section_count:
            table = yield ByteRange(trailer.table_start, trailer_start)
        ext = _decode_ext(trailer, table)
    return OpenedContainer(size, footer, ext, tail_start, tail)


def read_ext(size: int, table_start: int, footer: Footer) -> Reads[Ext]:
    """Plan the one read of table and trailer, where the catalog says where they are.

    Raises:
        CorruptContainerError: EXT is damaged, or not where it should be.
        UnsupportedContainerError: EXT needs a feature that is not known.
    """
    trailer_start = size - FOOTER_SIZE - TRAILER_SIZE
    data = yield ByteRange(table_start, size - FOOTER_SIZE)
    trailer = ExtTrailer.decode(data[-TRAILER_SIZE:])
    trailer.check(size=size, index_stop=footer.index_stop, footer=footer.encode())
    _check_layout(trailer, footer.layout)
    if trailer.table_start != table_start:
        raise BadTrailerError(f"section table starts at {trailer.table_start}, expected {table_start}")
    return _decode_ext(trailer, data[: trailer_start - table_start])


def read_section(section: Section, *, length_max: int = SECTION_READ_MAX) -> Reads[bytes]:
    """Plan the read of a section, whole and proven. No read where it is empty.

    Raises:
        ChecksumMismatchError: it is not what was written.
        UnsupportedContainerError: it is longer than `length_max`.
    """
    if section.length > length_max:
        raise UnsupportedContainerError(
            f"section {section.kind} has {section.length} bytes, at most {length_max} are read at once"
        )
    if not section.length:
        return section.check_bytes(b"")
    return section.check_bytes((yield ByteRange(section.start, section.stop)))


def section_order(sections: Sequence[NewSection], *, pages_last: bool) -> list[NewSection]:
    """Return sections as they are written: HASHPAGES last where the first read of a stranger holds them.

    Otherwise it comes first, and the small ones behind it are in that read.
    """
    pages = [section for section in sections if section.kind == SectionKind.HASHPAGES]
    others = [section for section in sections if section.kind != SectionKind.HASHPAGES]
    return others + pages if pages_last else pages + others


def _check_layout(trailer: ExtTrailer, layout: Layout) -> None:
    if bool(trailer.features & _FRAMED) != (layout is Layout.FRAMED):
        raise BadTrailerError(f"EXT has features {trailer.features:#x}, the footer says {layout.value}")


def _decode_ext(trailer: ExtTrailer, table: bytes) -> Ext:
    sections = decode_table(
        table,
        crc32c=trailer.table_crc32c,
        ext_start=trailer.ext_start,
        table_start=trailer.table_start,
    )
    return Ext(trailer, sections)
