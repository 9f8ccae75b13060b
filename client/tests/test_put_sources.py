"""Storing files: what they can be read from."""

import io

import pytest
from des_client import (
    DesClientError,
    InvalidArgument,
)
from stored_puts import BIG, KINDS, MIB, SOURCES, content, puts


@pytest.mark.parametrize("size", [0, 1, 100_000, MIB, MIB + 1, len(BIG)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_source_of_every_length_arrives(des, double, tmp_path, kind, size):
    data = BIG[:size]
    source = SOURCES[kind](tmp_path / "source", data)
    result = des.put(source)
    assert content(double, result) == data
    assert result.file.size_bytes == size
    assert (len(puts(double)) == 1) == (size <= MIB)
    if kind == "file":
        source.close()


def test_a_borrowed_buffer_is_given_back(des):
    for data in (b"hello", BIG):
        array = bytearray(data)
        des.put(array)
        array.append(0)
        file = io.BytesIO(data)
        des.put(file)
        assert file.tell() == len(data)
        file.write(b"more")


def test_the_callers_file_stays_open_and_ours_is_closed(des, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(BIG)
    with path.open("rb") as file:
        des.put(file)
        assert not file.closed


@pytest.mark.parametrize("wrong", ["text", 5, None, [1, 2], ["text"], io.StringIO("text")])
def test_what_is_not_bytes_is_a_type_error(des, double, wrong):
    with pytest.raises(TypeError):
        des.put(wrong)
    if isinstance(wrong, list):
        with pytest.raises(TypeError):
            des.put(iter(wrong))
    assert not double.files


def test_a_str_is_told_apart_from_a_path(des):
    with pytest.raises(TypeError, match="pathlib"):
        des.put("some/path")


def test_a_missing_path_is_the_builtin_error(des, tmp_path):
    with pytest.raises(FileNotFoundError) as failed:
        des.put(tmp_path / "nope")
    assert not isinstance(failed.value, DesClientError)


@pytest.mark.parametrize("length", [10, MIB + 10])
@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("lazily", [False, True])
def test_a_wrong_size_is_refused_and_nothing_is_stored(des, double, length, off, lazily):
    data = bytes(length)
    with pytest.raises(InvalidArgument) as failed:
        des.put(iter([data]) if lazily else data, size=length + off)
    assert failed.value.reason == "UPLOAD_SIZE_MISMATCH"
    assert not double.files


def test_a_declared_size_reaches_the_server(des, double):
    des.put(iter([BIG]), size=len(BIG))
    assert puts(double)[0].spec.size_bytes == len(BIG)


def test_an_unknown_size_is_not_declared(des, double):
    des.put(iter([BIG]))
    assert not puts(double)[0].spec.HasField("size_bytes")


def test_a_source_that_fails_ends_the_put_with_its_own_error(des, double):
    def broken():
        yield BIG
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        des.put(broken())
    assert not double.files
