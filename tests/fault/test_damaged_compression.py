"""Hostile and damaged compressed files: one typed error each, never other bytes, never much memory."""

import io
import tracemalloc

import google_crc32c
import pytest
import zstandard

from des.core import DesReader, DesWriter, S3DesReader
from des.errors import DesError
from des.format.compression import COMPRESSED_RAW_LENGTH_MAX, BadCompressionError
from des.format.compressor import Compressor, Samples
from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.footer import FOOTER_SIZE, Footer
from des.format.frame import BadFrameError, encode_frame_header
from des.format.header import HEADER
from des.format.index import FIXED, FLAG_COMPRESSED, FLAG_EXTERNAL, NAME_LENGTH
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put

TEXT = b"what a log says, it says often; " * 40
STORED = zstandard.ZstdCompressor().compress(TEXT)


def build(stored, *, codec=1, raw_length=len(TEXT), crc32c=None, flags=FLAG_COMPRESSED, size=None, zdict=b""):
    """A framed container of one file, its frame as wanted and its checksums right."""
    metadata = b'{"size":%d}' % (raw_length if size is None else size)
    header = encode_frame_header(
        b"a",
        metadata,
        flags=flags,
        stored_length=len(stored),
        data_crc32c=google_crc32c.value(TEXT) if crc32c is None else crc32c,
        codec=codec,
        raw_length=raw_length,
    )
    data = header + stored + b"a" + metadata
    start = len(HEADER) + len(zdict)
    stop = start + len(data)
    index = (
        NAME_LENGTH.pack(1)
        + b"a"
        + FIXED.pack(start + len(header), len(stored), stop - len(metadata), len(metadata), flags)
    )
    footer = Footer(start, len(data), stop, 0, stop, len(index), 1)
    return HEADER + zdict + data + index + footer.encode()


async def read_everywhere(container, tmp_path):
    """Read the file by every way there is; they must agree."""
    path = tmp_path / "c.des"
    path.write_bytes(container)
    with DesReader(path) as reader:
        data = reader.get_file("a")
        assert reader.get_range("a", 1) == data[1:]
    store = MemoryObjectStore()
    await put(store, "c.des", container)
    remote = S3DesReader(store, "c.des")
    assert await remote.get_file("a") == data
    assert (await remote.get_files_batch(["a"])) == {"a": data}
    return data


async def test_the_hand_made_container_is_sound(tmp_path):
    assert await read_everywhere(build(STORED), tmp_path) == TEXT


BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 28))
NEVER_SIZED = zstandard.ZstdCompressor(write_content_size=False).compressobj()
UNSIZED_BOMB = NEVER_SIZED.compress(bytes(1 << 26)) + NEVER_SIZED.flush()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"stored": BOMB}, BadFrameError),
        ({"stored": BOMB, "raw_length": 1 << 28}, BadFrameError),
        ({"stored": BOMB, "raw_length": COMPRESSED_RAW_LENGTH_MAX}, BadCompressionError),
        ({"stored": UNSIZED_BOMB, "raw_length": COMPRESSED_RAW_LENGTH_MAX}, BadCompressionError),
        ({"stored": STORED, "raw_length": len(TEXT) + 1}, BadCompressionError),
        ({"stored": STORED, "raw_length": len(TEXT) - 1}, BadCompressionError),
        ({"stored": STORED, "raw_length": len(STORED)}, BadFrameError),
        ({"stored": STORED, "raw_length": 0}, BadFrameError),
        ({"stored": b""}, BadFrameError),
        ({"stored": STORED, "crc32c": 1}, CorruptContainerError),
        ({"stored": STORED, "size": 3}, CorruptContainerError),
        ({"stored": STORED + b"\0"}, BadCompressionError),
        ({"stored": STORED[:-1]}, BadCompressionError),
        ({"stored": STORED, "codec": 0}, BadFrameError),
        ({"stored": STORED, "flags": 0}, BadFrameError),
        ({"stored": STORED, "codec": 2}, BadCompressionError),
        ({"stored": STORED, "codec": 15}, BadCompressionError),
        ({"stored": STORED, "codec": 2, "zdict": b"no dictionary " * 20}, BadCompressionError),
        ({"stored": STORED, "codec": 16}, UnsupportedContainerError),
        ({"stored": STORED, "codec": 255}, UnsupportedContainerError),
        ({"stored": TEXT, "flags": 4, "codec": 0}, UnsupportedContainerError),
        ({"stored": STORED, "flags": FLAG_COMPRESSED | 4}, UnsupportedContainerError),
        ({"stored": bytes(COMPRESSED_RAW_LENGTH_MAX)}, BadFrameError),
    ],
    ids=range(23),
)
async def test_a_fault_is_one_typed_error_and_little_memory(fault, error, tmp_path):
    container = build(**fault)
    tracemalloc.start()
    try:
        with pytest.raises(error):
            await read_everywhere(container, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(container) + (1 << 20)
        store = MemoryObjectStore()
        await put(store, "c.des", container)
        for read in (
            S3DesReader(store, "c.des").get_file("a"),
            S3DesReader(store, "c.des").get_range("a", 1),
        ):
            with pytest.raises(error):
                await read
    finally:
        tracemalloc.stop()


async def test_a_compressed_external_or_v1_file_is_not_supported(tmp_path):
    path = tmp_path / "c.des"
    target = io.BytesIO()
    with DesWriter(target, layout="v1", ext=False) as writer:
        writer.add_file("a", STORED)
    container = bytearray(target.getvalue())
    flags_at = len(container) - FOOTER_SIZE - 4
    for flags in (FLAG_COMPRESSED, FLAG_COMPRESSED | FLAG_EXTERNAL):
        container[flags_at] = flags
        path.write_bytes(container)
        with pytest.raises((UnsupportedContainerError, CorruptContainerError)), DesReader(path) as reader:
            reader.get_file("a")


def small():
    files = [
        b'{"number":%d,"title":"document %x","body":"as ever, as ever, and so on","owner":"user-%d"}'
        % (number, number * 7919, number * 104729)
        for number in range(1500)
    ]
    samples = Samples.choose(("application/json", len(data)) for data in files)
    compressor = Compressor.train(samples, {place: files[place] for place in samples.places})
    assert compressor.section
    target = io.BytesIO()
    with DesWriter(target, compressor=compressor) as writer:
        for number, data in enumerate(files[:6]):
            writer.add_file(f"f{number}", data, kind="application/json")
    return target.getvalue(), {f"f{number}": data for number, data in enumerate(files[:6])}


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_any_damaged_byte_is_an_error_or_does_no_harm(mask, tmp_path):
    container, files = small()
    path = tmp_path / "c.des"
    footer = Footer.decode(container[-FOOTER_SIZE:])
    for place in [
        *range(200),
        *range(200, footer.data_start, 7),
        *range(footer.data_start, footer.index_stop),
    ]:
        damaged = bytearray(container)
        damaged[place] ^= mask
        path.write_bytes(damaged)
        read = {}
        try:
            with DesReader(path) as reader:
                for name in files:
                    try:
                        read[name] = reader.get_file(name)
                    except DesError:
                        continue
        except CorruptContainerError:
            continue
        assert all(read[name] == files[name] for name in read), place
        if 16 <= place < footer.data_start:
            assert not read, place
        elif place < footer.data_stop and place >= footer.data_start:
            # zstd has bits that say nothing: flipping one changes neither the file nor the verdict.
            assert len(read) >= len(files) - 1, place
