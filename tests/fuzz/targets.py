"""What is fuzzed: each target takes any bytes, and raises nothing but deliberate errors.

A target that finds something sound demands that it stays the same when it is read another way.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from des.core import ContainerIndex, DesReader
from des.core.checkup import check_files, check_structure
from des.core.local_file import LocalFile
from des.errors import DesError
from des.format.compression import COMPRESSED_RAW_LENGTH_MAX, decompress
from des.format.dictionaries import Dictionaries
from des.format.ext import open_end, read_section
from des.format.ext_trailer import TRAILER_SIZE, ExtTrailer
from des.format.footer import Footer
from des.format.frame import FRAME_HEADER_SIZE, FrameHeader, decode_frame
from des.format.header import HEADER, HEADER_SIZE
from des.format.index import IndexEntry
from des.format.metadata import decode_metadata, decode_size
from des.format.names import list_names, read_directory
from des.format.reads import run
from des.format.section_table import SectionKind
from des.format.stats import Stats
from des.format.walk import walk_frames

_SCRATCH: Final = Path(tempfile.gettempdir()) / f"des-fuzz-{os.getpid()}.des"


def container(data: bytes) -> None:
    """A whole container: open, verify, list, read every file, walk its frames."""
    _SCRATCH.write_bytes(data)
    try:
        with LocalFile(_SCRATCH) as file:
            try:
                check_structure(file)
            except DesError:
                pass
            walk = file.drive(walk_frames(file.size))
            assert HEADER_SIZE <= walk.start <= max(walk.stop, HEADER_SIZE)
        with DesReader(_SCRATCH) as reader:
            names = reader.list_files(limit=100)
            for entry, problem in check_files(reader):
                if problem is None and not entry.is_external:
                    whole = b"".join(reader.read_pieces(entry))
                    assert reader.read_metadata(entry).size == len(whole)
            for name in names[:10]:
                _tolerant(lambda name=name: reader.get_range(name, 1, 5))
    except DesError:
        pass
    finally:
        _SCRATCH.unlink(missing_ok=True)


def index(data: bytes) -> None:
    """INDEX behind a footer that fits it."""
    count, data_stop, meta_stop = data[:1], 16 + int.from_bytes(data[1:3], "little"), 0
    meta_stop = data_stop + int.from_bytes(data[3:5], "little")
    raw = data[5:]
    footer = Footer(
        16,
        data_stop - 16,
        data_stop,
        meta_stop - data_stop,
        meta_stop,
        len(raw),
        int.from_bytes(count, "little"),
    )
    try:
        parsed = ContainerIndex.parse(raw, footer)
    except DesError:
        return
    for entry in parsed:
        assert parsed.find(entry.name) == entry


def frame(data: bytes) -> None:
    """One frame, and the entry that would fit it."""
    try:
        header = FrameHeader.decode(data[:FRAME_HEADER_SIZE])
        tail = data[FRAME_HEADER_SIZE + header.stored_length :]
        name = tail[: header.name_length].decode()
        entry = IndexEntry(name, 48, header.stored_length, 48, header.meta_length, header.flags)
        found, metadata = decode_frame(data[:FRAME_HEADER_SIZE], tail, entry)
        decode_metadata(metadata, entry, raw_length=found.raw_length)
    except (DesError, UnicodeDecodeError):
        pass


def metadata(data: bytes) -> None:
    """The JSON of one file; what was read is written and read again."""
    try:
        size = decode_size(data, "name")
    except DesError:
        return
    for flags in (0, 1):
        entry = IndexEntry("name", 0, size, 0, len(data), flags)
        try:
            found = decode_metadata(data, entry)
            encoded = found.encode()
        except DesError:
            continue
        assert decode_metadata(encoded, entry) == found


def ext(data: bytes) -> None:
    """EXT: trailer, table and sections before a footer that fits them."""
    trailer = data[-TRAILER_SIZE:]
    _tolerant(lambda: ExtTrailer.decode(trailer))
    footer = Footer(16, 0, 16, 0, 16, 0, 0)
    whole = HEADER + data + footer.encode()
    try:
        opened = run(open_end(len(whole)), lambda wanted: whole[wanted.start : wanted.stop])
    except DesError:
        return
    for section in () if opened.ext is None else opened.ext.sections:

        def read(section=section) -> None:
            def cut(wanted):
                return whole[wanted.start : wanted.stop]

            content = run(read_section(section), cut)
            if section.kind == SectionKind.STATS:
                Stats.decode(content)
            if section.kind == SectionKind.NAMES:
                index = Footer(16, 0, 16, 0, 16, 40 * section.count + 4096, section.count)
                names = run(list_names(run(read_directory(section, index), cut), limit=50), cut)
                assert names == sorted(names)

        _tolerant(read)


def zstd(data: bytes) -> None:
    """A compressed file: plain, and with whatever dictionary stands before it."""
    raw_length = int.from_bytes(data[:3], "little")
    try:
        raw = decompress(data[3:], raw_length=raw_length, dictionary=None)
        assert len(raw) == raw_length <= COMPRESSED_RAW_LENGTH_MAX
    except DesError:
        pass
    whole = bytes(HEADER_SIZE) + data

    def with_dictionary() -> None:
        plan = Dictionaries(len(whole)).decompress(data[3:], codec=2 + data[0] % 14, raw_length=raw_length)
        run(plan, lambda wanted: whole[wanted.start : wanted.stop])

    if data:
        _tolerant(with_dictionary)


def _tolerant(call: Callable[[], object]) -> None:
    try:
        call()
    except DesError:
        pass


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "container": container,
    "index": index,
    "frame": frame,
    "metadata": metadata,
    "ext": ext,
    "zstd": zstd,
}
