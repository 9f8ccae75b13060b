"""Files opened for reading and seeking."""

import io
import os
import random
import tarfile
import zipfile

import pytest
from des_client import AsyncDesClient, DesClient, FileMissing, InvalidArgument

DATA = random.Random(7).randbytes(700_001)


@pytest.fixture
def opened(server):
    with DesClient(server.target) as des, des.open(server.double.add(DATA)) as file:
        yield file


def test_it_reads_like_a_local_file(opened):
    local = io.BytesIO(DATA)
    dice = random.Random(11)
    for _ in range(300):
        match dice.randrange(5):
            case 0:
                size = dice.choice([0, 1, 10, 5000, 300_000])
                assert opened.read(size) == local.read(size)
            case 1:
                place = dice.randrange(800_000)
                assert opened.seek(place) == local.seek(place)
            case 2:
                place = -dice.randrange(700_000)
                assert opened.seek(place, os.SEEK_END) == local.seek(place, os.SEEK_END)
            case 3:
                assert opened.readline() == local.readline()
            case 4:
                assert opened.tell() == local.tell()
    assert opened.read() == local.read()


def test_it_knows_its_file(opened):
    assert opened.readable()
    assert opened.seekable()
    assert not opened.writable()
    assert opened.info.size_bytes == len(DATA)
    assert opened.name == opened.info.name


def test_small_reads_share_calls_and_the_rest_is_one(server):
    with DesClient(server.target) as des, des.open(server.double.add(DATA), buffer_bytes=100_000) as file:
        for _ in range(100):
            file.read(1000)
        assert server.double.calls["GetFile"] == 1
        file.seek(0)
        assert file.read() == DATA
        assert server.double.calls["GetFile"] == 2


def test_seeking_and_the_end_cost_nothing(server):
    with DesClient(server.target) as des, des.open(server.double.add(DATA)) as file:
        file.seek(0, os.SEEK_END)
        assert file.read(10) == b""
        file.seek(10**9)
        assert file.read() == b""
    assert dict(server.double.calls) == {"StatFile": 1}


def test_wrong_places_are_value_errors(opened):
    for wrong in ((-1, os.SEEK_SET), (-(10**9), os.SEEK_CUR), (0, 9)):
        with pytest.raises(ValueError, match="expected"):
            opened.raw.seek(*wrong)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read(1)
    for call in (opened.raw.tell, opened.raw.readall, lambda: opened.raw.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_missing_file_is_known_at_once(server):
    with DesClient(server.target) as des, pytest.raises(FileMissing):
        des.open("nope")


def test_libraries_that_want_a_file_take_it(server):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("inside.txt", "hello")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("inside.txt"))
    with DesClient(server.target) as des:
        name = server.double.add(archive.getvalue())
        with des.open(name) as file, zipfile.ZipFile(file) as packed:
            assert packed.read("inside.txt") == b"hello"
        with des.open(server.double.add(tar.getvalue())) as file, tarfile.open(fileobj=file) as packed:
            assert packed.getnames() == ["inside.txt"]


async def test_the_async_twin_reads_like_a_local_file(server):
    local = io.BytesIO(DATA)
    dice = random.Random(13)
    async with AsyncDesClient(server.target) as des:
        name = server.double.add(DATA)
        async with await des.open(name, buffer_bytes=50_000) as file:
            for _ in range(300):
                if dice.random() < 0.6:
                    size = dice.choice([0, 1, 10, 5000, 60_000])
                    assert await file.read(size) == local.read(size)
                else:
                    place = dice.randrange(-800_000, 800_000)
                    whence = os.SEEK_SET if place >= 0 else os.SEEK_END
                    place = max(place, -len(DATA))
                    assert file.seek(place, whence) == local.seek(place, whence)
                assert file.tell() == local.tell()
            file.seek(0)
            assert await file.read() == DATA
            assert await file.read(None) == b""
            assert file.name == file.info.name == name
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            await file.read()
        with pytest.raises(ValueError, match="closed"):
            file.tell()


async def test_small_async_reads_share_calls(server):
    async with AsyncDesClient(server.target) as des:
        async with await des.open(server.double.add(DATA), buffer_bytes=100_000) as file:
            for _ in range(100):
                await file.read(1000)
            assert server.double.calls["GetFile"] == 1
        with pytest.raises(InvalidArgument):
            await des.open(server.double.add(DATA), buffer_bytes=0)
