"""The writer: what it refuses, what a failure leaves, and that nothing is held in memory."""

import errno
import hashlib
import io
import os
import tracemalloc
from types import MappingProxyType

import google_crc32c
import pytest

from des.core import DesReader, DesWriter
from des.core.announced import SourceMismatchError
from des.core.sink import ContainerExistsError
from des.core.writer import (
    DuplicateNameError,
    FileTooLargeError,
    WriterFailedError,
)
from des.files import BLOCK_SIZE
from des.format.checksums import Checksums, block_checksums
from des.format.errors import InvalidEntryError
from des.format.footer import Footer
from des.format.layout import Layout
from des.format.system_metadata import SystemMetadata


class AppendOnly(io.RawIOBase):
    """Takes bytes front to back, a few at a time, and offers nothing else."""

    def __init__(self, *, room=1 << 60, taken_max=1 << 60):
        self.data = bytearray()
        self.room = room
        self.taken_max = taken_max

    def writable(self):
        return True

    def write(self, data):
        if len(self.data) >= self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(data)[: self.taken_max]
        self.data += taken
        return len(taken)


def crc(data):
    return google_crc32c.value(data)


def write_and_break(target):
    with DesWriter(target) as writer:
        writer.add_file("a", b"one" * 1_000_000)
        raise ZeroDivisionError


def add_much(writer):
    for i in range(100):
        writer.add_file(str(i), bytes(100_000))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.des"


def test_a_container_appears_whole_and_durable_under_its_name(path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append((path.exists(), fd)), fsync(fd)))
    with DesWriter(path) as writer:
        writer.add_file("a", b"one")
        assert not path.exists()
    assert [existed for existed, _ in synced] == [False, True]
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
    with DesReader(path) as reader:
        assert reader.get_file("a") == b"one"


def test_size_and_sha256_are_those_of_the_container(path):
    with DesWriter(path, digest=True) as writer:
        writer.add_file("a", b"one" * 1_000_000)
        writer.add_file("b", b"two")
    assert writer.size == path.stat().st_size
    whole = path.read_bytes()
    assert writer.sha256 == hashlib.sha256(whole).hexdigest()
    ext_start = writer.ext.trailer.ext_start
    assert hashlib.sha256(whole[:ext_start]).digest() in whole[ext_start:]
    assert writer.end_sha256 == hashlib.sha256(whole[ext_start:]).hexdigest()
    with DesWriter(io.BytesIO()) as writer, pytest.raises(ValueError, match="digest"):
        _ = writer.sha256
    with pytest.raises(ValueError, match="digest"):
        _ = writer.end_sha256


def test_an_exception_leaves_no_container(path):
    """D7."""
    with pytest.raises(ZeroDivisionError):
        write_and_break(path)
    assert list(path.parent.iterdir()) == []


def test_an_exception_leaves_a_stream_without_a_footer():
    target = io.BytesIO()
    with pytest.raises(ZeroDivisionError):
        write_and_break(target)
    assert b"DESFOOT1" not in target.getvalue()


def test_after_a_failed_write_every_call_raises():
    target = AppendOnly(room=1 << 20)
    writer = DesWriter(target)
    with pytest.raises(OSError, match="No space"):
        add_much(writer)
    for call in (
        lambda: writer.add_file("b", b""),
        lambda: writer.add_external("c", size=1, external_key="k"),
        writer.finish,
    ):
        with pytest.raises(WriterFailedError):
            call()
    assert b"DESFOOT1" not in target.data


def test_leaving_after_a_swallowed_failure_does_not_finish():
    target = AppendOnly(room=1 << 20)
    with DesWriter(target) as writer:
        for _ in range(2):
            with pytest.raises((OSError, WriterFailedError)):
                add_much(writer)
    assert b"DESFOOT1" not in target.data


def test_a_failed_finish_leaves_nothing(path, monkeypatch):
    def refuse(_descriptor):
        raise OSError(errno.EIO, "I/O error")

    writer = DesWriter(path)
    writer.add_file("a", b"one")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="I/O error"):
        writer.finish()
    assert list(path.parent.iterdir()) == []
    with pytest.raises(WriterFailedError):
        writer.finish()


def test_a_finished_writer_takes_nothing_more(path):
    writer = DesWriter(path)
    footer = writer.finish()
    writer.abort()
    assert footer.file_count == 0
    assert Footer.decode(path.read_bytes()[-72:]).file_count == 0
    with pytest.raises(WriterFailedError):
        writer.add_file("a", b"")
    with pytest.raises(WriterFailedError):
        writer.finish()


def test_a_refusal_leaves_the_writer_usable(path):
    system = SystemMetadata(crc32c=1)
    blocks = SystemMetadata(block_size=BLOCK_SIZE, block_crc32c=(1, 2))
    with DesWriter(path, day="20261123") as writer:
        name = "P_20261123_(000000000000_00)"
        writer.add_file(name, b"one")
        for refused, call in [
            (DuplicateNameError, lambda: writer.add_file(name, b"two")),
            (DuplicateNameError, lambda: writer.add_external(name, size=1, external_key="k")),
            (InvalidEntryError, lambda: writer.add_file("P_20261124_(000000000000_00)", b"")),
            (InvalidEntryError, lambda: writer.add_file("_20261123_\ud800", b"")),
            (InvalidEntryError, lambda: writer.add_file("_20261123_" + "x" * 65_526, b"")),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"size": 1})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"is_external": True})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"external_key": "k"})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"_des": {}})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={1: "x"})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"a": float("nan")})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"a": b"bytes"})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"a": "\ud800"})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", metadata={"a": "x" * 65_536})),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", system=blocks)),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", b"", system=system, crc32c=2)),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", iter([b""]), crc32c=0)),
            (InvalidEntryError, lambda: writer.add_file("_20261123_", iter([b""]), size=0)),
            (FileTooLargeError, lambda: writer.add_file("_20261123_", iter([]), size=1 << 32, crc32c=0)),
            (InvalidEntryError, lambda: writer.add_external("_20261123_", size=-1, external_key="k")),
            (InvalidEntryError, lambda: writer.add_external("_20261123_", size=1, external_key="")),
            (SourceMismatchError, lambda: writer.add_file("_20261123_", b"one", size=4)),
            (SourceMismatchError, lambda: writer.add_file("_20261123_", b"one", crc32c=7)),
        ]:
            size = writer.size
            with pytest.raises(refused):
                call()
            assert writer.size == size
        writer.add_file("_20261123_", b"last")
    with DesReader(path) as reader:
        assert [reader.get_file(stored.name) for stored in reader] == [b"one", b"last"]


@pytest.mark.parametrize("name", ["", "x" * 65_536])
def test_a_name_has_bounds(name):
    with DesWriter(io.BytesIO()) as writer, pytest.raises(InvalidEntryError):
        writer.add_file(name, b"")


@pytest.mark.parametrize("day", ["2026-11-23", "", "today"])
def test_a_day_is_eight_digits(day):
    with pytest.raises(ValueError, match="YYYYMMDD"):
        DesWriter(io.BytesIO(), day=day)


@pytest.mark.parametrize(
    "chunks", [[b"too ", b"short"], [b"much ", b"too ", b"long"], [b"other ", b"bytes"], []]
)
@pytest.mark.parametrize("layout", Layout)
def test_a_stream_that_is_not_what_was_announced_spoils_the_container(chunks, layout, path):
    writer = DesWriter(path, layout=layout)
    with pytest.raises(SourceMismatchError):
        writer.add_file("a", iter(chunks), size=11, crc32c=crc(b"as promised"))
    with pytest.raises(WriterFailedError):
        writer.finish()
    assert list(path.parent.iterdir()) == []


def test_a_stream_that_breaks_spoils_the_container(path):
    def breaking():
        yield b"one"
        raise ConnectionError

    writer = DesWriter(path)
    with pytest.raises(ConnectionError):
        writer.add_file("a", breaking(), size=6, crc32c=0)
    with pytest.raises(WriterFailedError):
        writer.add_file("b", b"")
    assert list(path.parent.iterdir()) == []


def test_the_callers_metadata_is_never_changed(path):
    """D21."""
    metadata = {"b": 1, "a": [1, 2]}
    with DesWriter(path, layout="v1") as writer:
        writer.add_file("a", b"one", metadata=metadata)
        writer.add_file("b", b"one", metadata=MappingProxyType(metadata))
        writer.add_external("c", size=1, external_key="k", metadata=metadata)
    assert metadata == {"b": 1, "a": [1, 2]}
    assert b'{"b":1,"a":[1,2],"size":3}' in path.read_bytes()
    assert b'{"b":1,"a":[1,2],"size":1,"is_external":true,"external_key":"k"}' in path.read_bytes()


def test_nothing_is_replaced_unless_asked(path):
    """D4 and D6: a name is never taken from a container, and a leftover does not block for ever."""
    path.write_bytes(b"mine")
    with pytest.raises(ContainerExistsError):
        DesWriter(path)
    assert path.read_bytes() == b"mine"
    with DesWriter(path, replace_existing=True) as writer:
        writer.add_file("a", b"one")
    with DesReader(path) as reader:
        assert len(reader) == 1


def test_of_two_writers_the_first_to_finish_has_the_name(path):
    first, second = DesWriter(path), DesWriter(path)
    first.add_file("a", b"one")
    first.finish()
    with pytest.raises(ContainerExistsError):
        second.finish()
    assert list(path.parent.iterdir()) == [path]


def test_a_sink_may_take_little_at_a_time():
    target, reference = AppendOnly(taken_max=7), io.BytesIO()
    for sink in (target, reference):
        with DesWriter(sink) as writer:
            for i in range(200):
                writer.add_file(str(i), bytes([i]) * i)
    assert target.data == reference.getvalue()


def test_a_sink_that_takes_nothing_is_an_error():
    with pytest.raises(BlockingIOError):
        DesWriter(AppendOnly(taken_max=0)).finish()


def test_long_bytes_get_block_checksums(path):
    data = os.urandom(BLOCK_SIZE + 1)
    with DesWriter(path) as writer:
        writer.add_file("a", data)
        writer.add_file("short", data[:-1])
    with DesReader(path) as reader:
        system = reader.get_meta("a").system
        assert (system.block_size, system.block_crc32c) == (BLOCK_SIZE, block_checksums(data))
        assert system.crc32c == crc(data)
        assert reader.get_meta("short").system.block_size is None


def test_block_checksums_given_are_verified(path):
    data = bytes(200_000)
    right = SystemMetadata(block_size=1 << 16, block_crc32c=block_checksums(data, 1 << 16))
    wrong = SystemMetadata(block_size=1 << 16, block_crc32c=(*right.block_crc32c[:3], 7))
    with DesWriter(path) as writer:
        writer.add_file("bytes", data, system=right)
        writer.add_file("stream", iter([data]), size=len(data), system=right, crc32c=crc(data))
        with pytest.raises(SourceMismatchError):
            writer.add_file("wrong", data, system=wrong)
    with DesReader(path) as reader:
        assert reader.get_meta("bytes").system == reader.get_meta("stream").system
    spoilt = DesWriter(io.BytesIO())
    with pytest.raises(SourceMismatchError):
        spoilt.add_file("wrong", iter([data]), size=len(data), system=wrong, crc32c=crc(data))


def test_checksums_do_not_depend_on_how_a_stream_is_cut():
    data = os.urandom(300_000)
    for step in (1 << 16, 65_535, 100_000, 300_000):
        checksums = Checksums(1 << 16)
        for start in range(0, len(data), step):
            checksums.update(data[start : start + step])
        assert checksums.block_crc32c == block_checksums(data, 1 << 16)
        assert (checksums.crc32c, checksums.size) == (crc(data), len(data))


def test_every_kind_of_bytes_is_taken(path):
    with DesWriter(path) as writer:
        writer.add_file("bytes", b"one")
        writer.add_file("bytearray", bytearray(b"one"))
        writer.add_file("memoryview", memoryview(b"one"))
        writer.add_file("stream", [b"o", bytearray(b"n"), memoryview(b"e")], size=3, crc32c=crc(b"one"))
    with DesReader(path) as reader:
        assert {reader.get_file(stored.name) for stored in reader} == {b"one"}


@pytest.mark.parametrize("chunks", [[5], ["text"], [None]])
def test_a_stream_of_other_things_is_refused(chunks):
    writer = DesWriter(io.BytesIO(), layout="v1")
    with pytest.raises(TypeError):
        writer.add_file("a", chunks, size=5)
    with pytest.raises(WriterFailedError):
        writer.finish()


def test_a_long_stream_is_not_held_in_memory(path):
    chunk = bytes(1 << 20)
    total = Checksums()
    for _ in range(64):
        total.update(chunk)
    with DesWriter(path) as writer:
        tracemalloc.start()
        try:
            writer.add_file("a", (chunk for _ in range(64)), size=total.size, crc32c=total.crc32c)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("layout", Layout)
def test_the_writers_index_is_what_a_reader_finds(layout, path):
    with DesWriter(path, layout=layout) as writer:
        with pytest.raises(ValueError, match="not finished"):
            _ = writer.index
        entries = [writer.add_file(str(i), bytes(i)) for i in range(20)]
        entries.append(writer.add_external("x", size=5, external_key="k"))
    with DesReader(path) as reader:
        assert list(writer.index) == list(reader.index)
        if layout is Layout.FRAMED:
            assert entries == list(reader.index)
