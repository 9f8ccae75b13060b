"""Makes a new container from the sound parts of an old one: adds EXT, or rebuilds INDEX.

The old one is only read, and files keep their places: what stands before INDEX is copied as it is.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

from des.core.byte_source import ByteSource
from des.core.checkup import Problem, check_files
from des.core.container_index import ContainerIndex
from des.core.ext_builder import NO_FEATURES, ExtBuilder, write_ext
from des.core.reader import DesReader
from des.core.sink import FileSink
from des.core.writer import DesWriter
from des.errors import CorruptError, DesError, InvalidInputError
from des.format.byte_range import ByteRange
from des.format.compression import CODEC_RAW
from des.format.ext import open_end
from des.format.ext_trailer import Feature
from des.format.footer import Footer
from des.format.frame import FRAME_HEADER_SIZE, FrameHeader, frame_start
from des.format.header import HEADER_SIZE, check_header
from des.format.index import FIXED, NAME_LENGTH, IndexEntry
from des.format.layout import Layout
from des.format.name_key import bound_seed, name_digest
from des.format.plan import read_index
from des.format.walk import walk_frames


class ExtThereError(InvalidInputError):
    """The container has EXT already: there is nothing to add."""


class NothingToRebuildError(CorruptError):
    """Nothing in the container tells where a file is: its INDEX is lost, and there are no frames."""


@dataclass(slots=True)
class Rebuilt:
    """What became of a container's files."""

    kept: int = 0
    lost: list[Problem] = field(default_factory=list)
    """Files that INDEX names and that could not be read; a lost INDEX names none."""
    from_frames: bool = False
    """Whether INDEX was lost, and the files were found by walking frames."""
    unread_from: int | None = None
    """Where the walk ended before the end of DATA; None where it did not."""


def read_without_ext(source: ByteSource) -> tuple[Footer, bytes]:
    """Return FOOTER and INDEX of a container that has no EXT.

    Raises:
        CorruptContainerError: the container is damaged.
        ExtThereError: it has EXT.
    """
    opened = source.drive(open_end(source.size))
    if opened.ext is not None:
        raise ExtThereError(f"{source.name!r} has EXT already")
    check_header(source.read(ByteRange(0, HEADER_SIZE)))
    return opened.footer, source.drive(read_index(opened.footer))


def upgrade(source: ByteSource, target: Path, *, on_bytes: Callable[[int], None] = lambda _: None) -> Footer:
    """Write a copy of a container without EXT, with EXT; every v1 file is read for its checksum.

    Raises:
        ContainerExistsError: the target is taken.
        CorruptContainerError: the container is damaged.
        ExtThereError: it has EXT.
    """
    footer, index = read_without_ext(source)
    entries = list(ContainerIndex.parse(index, footer))
    _seal(source, target, footer, entries, index, on_bytes=on_bytes, features=Feature.UPGRADED)
    return footer


def rebuild(source: ByteSource, target: Path, *, on_bytes: Callable[[int], None] = lambda _: None) -> Rebuilt:
    """Write a new container of all files that are whole in `source`.

    Where INDEX can be read, those files that it names and that verify. Otherwise, in `framed`, those that
    walking the frames gives, up to the first damaged one.

    Raises:
        ContainerExistsError: the target is taken.
        NothingToRebuildError: no file can be found.
    """
    try:
        reader = DesReader(source)
    except DesError:
        return _from_frames(source, target, on_bytes)
    with reader:
        if reader.footer.layout is Layout.V1:
            return _again(reader, target, on_bytes)
        rebuilt = Rebuilt()
        entries: list[IndexEntry] = []
        for entry, problem in check_files(reader):
            if problem is None:
                entries.append(entry)
            else:
                rebuilt.lost.append(problem)
        footer = reader.footer
        _seal_framed(source, target, footer.data_start, footer.data_stop, entries, on_bytes)
        rebuilt.kept = len(entries)
        return rebuilt


def _from_frames(source: ByteSource, target: Path, on_bytes: Callable[[int], None]) -> Rebuilt:
    walk = source.drive(walk_frames(source.size))
    entries = list({entry.name: entry for entry in walk.entries}.values())
    if not entries:
        raise NothingToRebuildError(
            f"{source.name!r} has no readable INDEX, and no whole frame at {walk.start}"
        )
    _seal_framed(source, target, walk.start, walk.stop, entries, on_bytes)
    return Rebuilt(kept=len(entries), from_frames=True, unread_from=walk.stop)


def _again(reader: DesReader, target: Path, on_bytes: Callable[[int], None]) -> Rebuilt:
    """Write the files of a v1 container that can be read to a new one."""
    rebuilt = Rebuilt()
    with DesWriter(target, layout=Layout.V1) as writer:
        for entry, problem in check_files(reader):
            if problem is not None:
                rebuilt.lost.append(problem)
                continue
            metadata = reader.read_metadata(entry)
            if metadata.external_key is not None:
                writer.add_external(
                    entry.name,
                    size=metadata.size,
                    external_key=metadata.external_key,
                    metadata=metadata.user,
                    system=metadata.system,
                )
            else:
                writer.add_file(
                    entry.name,
                    reader.read_pieces(entry),
                    size=metadata.size,
                    metadata=metadata.user,
                    system=metadata.system,
                    crc32c=metadata.system.crc32c,
                )
            on_bytes(entry.data_length)
    rebuilt.kept = len(writer)
    return rebuilt


def _encode_index(entries: Iterable[IndexEntry]) -> bytes:
    encoded = bytearray()
    for entry in entries:
        name = entry.name.encode()
        encoded += NAME_LENGTH.pack(len(name)) + name
        encoded += FIXED.pack(
            entry.data_offset, entry.data_length, entry.meta_offset, entry.meta_length, entry.flags
        )
    return bytes(encoded)


def _seal_framed(
    source: ByteSource,
    target: Path,
    data_start: int,
    data_stop: int,
    entries: list[IndexEntry],
    on_bytes: Callable[[int], None],
) -> None:
    """Seal `framed` DATA of the source, in which metadata stand beside the files."""
    index = _encode_index(entries)
    footer = Footer(
        data_start=data_start,
        data_length=data_stop - data_start,
        meta_start=data_stop,
        meta_length=0,
        index_start=data_stop,
        index_length=len(index),
        file_count=len(entries),
    )
    _seal(source, target, footer, entries, index, on_bytes=on_bytes)


def _seal(
    source: ByteSource,
    target: Path,
    footer: Footer,
    entries: list[IndexEntry],
    index: bytes,
    *,
    on_bytes: Callable[[int], None],
    features: Feature = NO_FEATURES,
) -> None:
    """Copy what stands before INDEX, and write INDEX, EXT and FOOTER behind it."""
    ContainerIndex.parse(index, Footer.decode(footer.encode()))
    sink = FileSink(target, digest=True, replace_existing=False)
    try:
        for piece in source.pieces(0, footer.index_start):
            sink.write(piece)
            on_bytes(len(piece))
        sink.write(index)
        builder, meta = _gather(source, footer, entries, features)
        parts = builder.finish(
            footer,
            sorted(entry.name.encode() for entry in entries),
            index=index,
            meta=meta,
            checksums=sink.checksums(),
            container_id=None,
        )
        write_ext(sink, parts, footer)
        sink.write(footer.encode())
        sink.commit()
    except BaseException:
        sink.discard()
        raise


def _gather(
    source: ByteSource, footer: Footer, entries: Iterable[IndexEntry], features: Feature
) -> tuple[ExtBuilder, bytes]:
    """Return what EXT says of the files, and for v1 their metadata, one after the other."""
    builder = ExtBuilder(features)
    meta = bytearray()
    position = 0
    for entry in entries:
        name = entry.name.encode()
        digest = name_digest(name)
        if footer.layout is Layout.FRAMED:
            frame = FrameHeader.decode(
                source.read(ByteRange(frame_start(entry), frame_start(entry) + FRAME_HEADER_SIZE))
            )
            builder.add(
                digest,
                offset=frame_start(entry),
                length=entry.data_length,
                flags=entry.flags,
                proof=entry.meta_length,
                index_position=position,
                meta_position=0,
                slot=frame.codec,
                raw_length=frame.raw_length if entry.is_compressed else None,
            )
        else:
            builder.add(
                digest,
                offset=entry.data_offset,
                length=entry.data_length,
                flags=entry.flags,
                proof=_proof(source, entry, bound_seed(digest)),
                index_position=position,
                meta_position=len(meta),
                slot=CODEC_RAW,
            )
            meta += source.read(ByteRange(entry.meta_offset, entry.meta_offset + entry.meta_length))
        position += NAME_LENGTH.size + len(name) + FIXED.size
    return builder, bytes(meta)


def _proof(source: ByteSource, entry: IndexEntry, seed: int) -> int:
    """Return the checksum that binds a v1 file's bytes to its name."""
    if not entry.is_external:
        for piece in source.pieces(entry.data_offset, entry.data_offset + entry.data_length):
            seed = google_crc32c.extend(seed, piece)
    return seed
