"""Proves a whole container: its structure, or every byte of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import google_crc32c

from des.core.byte_source import ByteSource
from des.core.container_index import ContainerIndex
from des.core.file_view import ExternalFileOutOfReachError
from des.core.reader import DesReader
from des.errors import DesError
from des.format.block_crc import BlockCrc, scrub
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.errors import ChecksumMismatchError, CorruptContainerError, UnsupportedContainerError
from des.format.ext import Ext, OpenedContainer, open_end, read_section
from des.format.header import HEADER_SIZE, check_header
from des.format.index import FLAG_EXTERNAL, IndexEntry
from des.format.plan import read_index
from des.format.section_table import Section, SectionKind


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a container."""

    where: str
    """The file's name, or the section's."""
    error: DesError


def check_structure(file: ByteSource) -> tuple[OpenedContainer, ContainerIndex, list[Problem]]:
    """Prove all of a container but its files: header, footer, INDEX, EXT, dictionaries.

    Raises:
        CorruptContainerError: header, footer, EXT's trailer or INDEX are damaged: no reader opens it.
        UnsupportedContainerError: it needs what this reader does not have.
    """
    opened = file.drive(open_end(file.size))
    check_header(file.read(ByteRange(0, HEADER_SIZE)))
    index = ContainerIndex.parse(file.drive(read_index(opened.footer)), opened.footer)
    problems = list(_check_dictionaries(file, opened.footer.data_start, index))
    if opened.ext is not None:
        problems += _check_sections(file, opened.ext)
    return opened, index, problems


def check_blocks(file: ByteSource, opened: OpenedContainer) -> list[Problem]:
    """Prove every block before EXT against BLOCKCRC; nothing where the container has none."""
    section = None if opened.ext is None else opened.ext.section(SectionKind.BLOCKCRC)
    if section is None:
        return []
    stop = opened.footer.index_stop
    try:
        block_crc = BlockCrc.decode(file.drive(read_section(section)), section, stop)
    except CorruptContainerError as error:
        return [Problem("BLOCKCRC", error)]
    problems: list[Problem] = []
    for block in range(len(block_crc.crc32c)):
        try:
            file.drive(scrub(block_crc, stop, [block]))
        except CorruptContainerError as error:
            problems.append(Problem(f"block {block}", error))
    return problems


def check_files(reader: DesReader) -> Iterator[tuple[IndexEntry, Problem | None]]:
    """Read every file whole, in data order; external ones only as far as the container describes them."""
    for entry in reader.index:
        problem = None
        try:
            for _ in reader.read_pieces(entry):
                pass
        except ExternalFileOutOfReachError:
            pass
        except DesError as error:
            problem = Problem(entry.name, error)
        yield entry, problem


def check_for_origin(index: ContainerIndex) -> Problem | None:
    """Return what the origin's readers would get wrong: they know no flag but `external`."""
    wrong = [entry.name for entry in index if entry.flags & ~FLAG_EXTERNAL]
    if not wrong:
        return None
    return Problem(
        "INDEX",
        UnsupportedContainerError(
            f"{len(wrong)} of {len(index)} files, the first {wrong[0]!r}, are compressed, encrypted or "
            "deleted: the origin's readers would return the stored bytes"
        ),
    )


def _check_sections(file: ByteSource, ext: Ext) -> Iterator[Problem]:
    for section in ext.sections:
        crc32c = 0
        for piece in file.pieces(section.start, section.stop):
            crc32c = google_crc32c.extend(crc32c, piece)
        if crc32c != section.crc32c:
            yield Problem(
                section_name(section),
                ChecksumMismatchError(f"has CRC32C {crc32c:08x}, expected {section.crc32c:08x}"),
            )


def _check_dictionaries(file: ByteSource, data_start: int, index: ContainerIndex) -> Iterator[Problem]:
    if data_start == HEADER_SIZE or not any(entry.is_compressed for entry in index):
        return
    dictionaries = Dictionaries(data_start)
    try:
        for slot in file.drive(dictionaries.read_directory()).slots:
            file.drive(dictionaries.read(slot))
    except CorruptContainerError as error:
        yield Problem("ZDICT", error)


def section_name(section: Section) -> str:
    """Return a section's name; of one that is not known, its number."""
    try:
        return SectionKind(section.kind).name
    except ValueError:
        return f"section {section.kind}"
