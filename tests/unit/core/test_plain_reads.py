"""The short way to files of a local container: the same bytes as the long way, by few system calls."""

import os
import random

import pytest

import des.core.local_file
from des.core import DesReader, DesWriter
from des.core.file_view import ExternalFileOutOfReachError, FileNotInContainerError
from des.core.plain_end import open_plain
from des.format.compressor import Compressor, Samples
from des.format.errors import CorruptContainerError
from des.format.ext import ExtGeometry, open_end
from des.format.layout import Layout
from des.format.reads import run

COUNT = 1000


def contents(i):
    """Every length from none up; half of it compresses."""
    return bytes(i) if i % 2 else random.Random(i).randbytes(i)


@pytest.fixture(scope="module")
def container(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "c.des"
    samples = Samples.choose(("", i) for i in range(COUNT))
    compressor = Compressor.train(samples, {at: contents(at) for at in samples.places})
    with DesWriter(path, compressor=compressor) as writer:
        for i in range(COUNT):
            writer.add_file(f"f{i}", contents(i))
        writer.add_external("outside", size=5, external_key="k")
    return path


@pytest.fixture
def preads(monkeypatch):
    """Count the reads of a local file."""
    found = []
    pread = os.pread
    monkeypatch.setattr(
        des.core.local_file.os, "pread", lambda *place: (found.append(place), pread(*place))[1]
    )
    return found


def test_the_end_says_what_the_long_way_says(container):
    data = container.read_bytes()
    plain = open_plain(data[-1024:], len(data))
    opened = run(open_end(len(data)), lambda wanted: data[wanted.start : wanted.stop])
    pages = ExtGeometry.of(opened.ext, opened.footer).pages
    assert plain[:6] == (
        opened.footer.data_start,
        opened.footer.data_stop,
        COUNT + 1,
        pages.start,
        pages.written_count,
        pages.page_count,
    )
    # The same end behind fewer bytes, or cut off, is not the end of this container.
    assert open_plain(data[-1024:], len(data) - 1) is None
    assert all(open_plain(data[-size:], len(data)) is None for size in range(1, 300))


@pytest.mark.parametrize(("layout", "ext"), [(Layout.V1, True), (Layout.FRAMED, False)])
def test_other_containers_go_the_long_way(layout, ext, tmp_path):
    with DesWriter(tmp_path / "c.des", layout=layout, ext=ext) as writer:
        writer.add_file("a", b"one" * 1000)
        writer.add_file("b", b"two")
    data = (tmp_path / "c.des").read_bytes()
    assert open_plain(data[-1024:], len(data)) is None
    with DesReader(tmp_path / "c.des") as reader:
        assert reader.get_files_batch(["b", "a"]) == {"b": b"two", "a": b"one" * 1000}


def test_opening_takes_two_reads_and_a_file_two_more(container, preads):
    with DesReader(container) as reader:
        assert len(reader) == COUNT + 1
        assert len(preads) == 2
        assert reader.get_file("f996") == contents(996)
        assert len(preads) in {4, 5}  # one more where its page is full


def test_a_batch_is_what_was_asked_for_in_that_order(container, preads):
    names = [f"f{i}" for i in range(COUNT)]
    random.Random(1).shuffle(names)
    with DesReader(container) as reader:
        files = reader.get_files_batch([*names, names[0]])
        # Opening, pages (those of names that spilt once more), DATA, dictionaries: not two for each file.
        assert len(preads) < 10
        assert files == {name: contents(int(name[1:])) for name in names}
        assert list(files) == names
        assert {name: reader.get_file(name) for name in names} == files
        assert reader.get_files_batch([]) == {}


@pytest.mark.parametrize("absent", ["f1000", "", "\ud800", "x" * 70_000])
def test_a_batch_with_an_absent_name_reads_no_file(absent, container):
    with DesReader(container) as reader:
        with pytest.raises(FileNotInContainerError):
            reader.get_files_batch(["f1", absent, "f2"])
        with pytest.raises(FileNotInContainerError):
            reader.get_file(absent)


def test_a_batch_goes_the_long_way_where_it_must(container):
    with DesReader(container, external=lambda key: b"12345" if key == "k" else b"") as reader:
        assert reader.get_files_batch(["outside", "f7"]) == {"outside": b"12345", "f7": contents(7)}
    with DesReader(container) as reader, pytest.raises(ExternalFileOutOfReachError):
        reader.get_files_batch(["outside"])


def test_a_damaged_file_of_a_batch_is_told(container, tmp_path):
    data = bytearray(container.read_bytes())
    with DesReader(container) as reader:
        place = reader.find("f996").data_offset + 5
    data[place] ^= 1
    (tmp_path / "bad.des").write_bytes(data)
    with DesReader(tmp_path / "bad.des") as reader:
        assert reader.get_files_batch(["f995", "f997"])
        with pytest.raises(CorruptContainerError):
            reader.get_files_batch(["f995", "f996"])


def test_a_folder_is_no_container(tmp_path):
    with pytest.raises(IsADirectoryError):
        DesReader(tmp_path)
