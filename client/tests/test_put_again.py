"""Storing files: names, repeats, and what comes in between."""

import time

import pytest
from des_client import (
    ChecksumMismatch,
    DeadlineExceeded,
    InvalidArgument,
    NameConflict,
    Unavailable,
    UploadInterrupted,
)
from stored_puts import BIG, KINDS, MIB, SOURCES, content, puts


def test_a_given_name_is_used_and_carries_no_request_id(des, double):
    (assigned,) = des.assign_names()
    assert des.put(b"x", name=assigned.name).file.name == assigned.name
    assert not puts(double)[0].spec.request_id


def test_the_same_content_again_is_fine_and_other_content_is_a_conflict(des):
    name = des.put(b"x").file.name
    assert des.put(b"x", name=name).already_existed
    with pytest.raises(NameConflict) as failed:
        des.put(b"y", name=name)
    assert isinstance(failed.value, FileExistsError)
    assert failed.value.metadata == {"name": name}
    assert failed.value.reason == "NAME_CONFLICT"


def test_a_callers_request_id_makes_two_calls_one_file(des, double):
    first = des.put(b"x", request_id="mine")
    second = des.put(b"x", request_id="mine")
    assert first.file == second.file
    assert second.already_existed
    assert len(double.files) == 1


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_a_lost_reply_makes_no_second_file(des, double, data):
    double.fail("PutFile", code="UNAVAILABLE", after_effect=True, times=3)
    result = des.put(data)
    assert double.calls["PutFile"] == 4
    assert [one.content for one in double.files.values()] == [data]
    assert result.already_existed
    ids = {one.spec.request_id for one in puts(double) if one.HasField("spec")}
    assert len(ids) == 1
    assert ids != {""}


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_a_refusal_before_the_effect_is_tried_again(des, double, data):
    double.fail("PutFile", code="UNAVAILABLE", reason="SERVER_BUSY", retry_after_s=0.01)
    assert not des.put(data).already_existed
    assert double.calls["PutFile"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_cut_in_the_middle_starts_again_from_byte_0(des, double, tmp_path, kind):
    double.fail("PutFile", code="UNAVAILABLE", at_byte=2 * MIB, times=2)
    source = SOURCES[kind](tmp_path / "source", BIG)
    result = des.put(source)
    assert content(double, result) == BIG
    assert double.calls["PutFile"] == 3
    if kind == "file":
        source.close()


@pytest.mark.parametrize("pieces", [64 * 1024, 3 * MIB])
def test_a_source_read_once_fails_when_more_than_8_mib_are_gone(des, double, pieces):
    data = bytes(12 * MIB)
    double.fail("PutFile", code="UNAVAILABLE", reason="SERVER_BUSY", at_byte=10 * MIB)
    with pytest.raises(UploadInterrupted, match="cannot be read again") as failed:
        des.put(data[at : at + pieces] for at in range(0, len(data), pieces))
    assert isinstance(failed.value.__cause__, Unavailable)
    assert isinstance(failed.value, ConnectionError)
    assert double.calls["PutFile"] == 1
    assert not double.files


def test_a_path_of_12_mib_is_read_again(des, double, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(12 * MIB))
    double.fail("PutFile", code="UNAVAILABLE", at_byte=10 * MIB)
    assert des.put(path).file.size_bytes == 12 * MIB


def test_a_file_that_changes_while_it_is_sent_is_refused(des, double, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(BIG)

    def grow(progress):
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(InvalidArgument):
        des.put(path, on_progress=grow)
    assert not double.files


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_bytes_changed_on_their_way_up_are_never_stored(des, double, data):
    double.fail("PutFile", flip_chunk=True, at_byte=len(data) - 1)
    with pytest.raises(ChecksumMismatch) as failed:
        des.put(data)
    assert failed.value.reason == "UPLOAD_CHECKSUM_MISMATCH"
    assert failed.value.metadata == {"scope": "chunk"}
    assert not double.files
    assert double.calls["PutFile"] == 1


def test_an_early_refusal_ends_a_long_upload(des, double):
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield bytes(MIB)

    double.fail("PutFile", code="INVALID_ARGUMENT", reason="FILE_TOO_LARGE", at_byte=3 * MIB)
    with pytest.raises(InvalidArgument) as failed:
        des.put(endless())
    assert failed.value.reason == "FILE_TOO_LARGE"
    assert read < 200


def test_an_answer_before_the_end_is_an_answer(des, double):
    name = double.add(bytes(64 * MIB))
    double.fail("PutFile", answer_at=2 * MIB, times=5)
    result = des.put(bytes(64 * MIB), name=name)
    assert result.already_existed
    assert result.file.name == name


def test_a_large_put_to_a_silent_server_ends_at_its_timeout(des, double):
    double.fail("GetServerInfo", delay_s=20)
    double.fail("PutFile", delay_s=20)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        des.put(BIG, timeout_s=0.4)
    assert time.monotonic() - started < 0.8
