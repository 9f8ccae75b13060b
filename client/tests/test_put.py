"""Storing files: sources, messages, repeats."""

import io
import os
import threading
import time
from types import SimpleNamespace

import pytest
from des_client import (
    ChecksumMismatch,
    DeadlineExceeded,
    DesClient,
    DesClientError,
    Durability,
    FileState,
    InvalidArgument,
    NameConflict,
    Progress,
    RetryConfig,
    Unavailable,
    UploadInterrupted,
)

MIB = 1 << 20
BIG = bytes(range(256)) * (10 * 1024) + b"tail"  # 2.5 MiB and a bit


def puts(double):
    return [one for one in double.requests if type(one).__name__ == "PutFileRequest"]


def content(double, result):
    return double.files[result.file.name].content


def test_a_small_file_is_one_message_and_one_call(des, double):
    result = des.put(b"hello", content_type="text/plain", metadata={"owner": "me"})
    (message,) = puts(double)
    assert message.finish
    assert message.spec.size_bytes == 5
    assert message.chunk.data == b"hello"
    assert message.chunk.crc32c == message.checksums.crc32c == 0x9A71BB4C
    assert dict(double.calls) == {"PutFile": 1}
    assert result.file.content_type == "text/plain"
    assert result.file.metadata == {"owner": "me"}
    assert result.file.crc32c == 0x9A71BB4C
    assert result.file.state is FileState.OPEN
    assert result.file.create_time.isoformat() == "2026-01-15T12:00:00.123000+00:00"
    assert result.file.seal_time is None
    assert result.durability is Durability.LOCAL
    assert not result.already_existed


def test_exactly_one_mebibyte_is_still_one_message(des, double):
    des.put(bytes(MIB))
    assert len(puts(double)) == 1


def test_a_longer_file_comes_in_mebibytes_with_the_checksum_last(des, double):
    result = des.put(BIG)
    messages = puts(double)
    assert [len(one.chunk.data) for one in messages] == [MIB, MIB, len(BIG) - 2 * MIB]
    assert [one.write_offset for one in messages] == [0, MIB, 2 * MIB]
    assert [one.finish for one in messages] == [False, False, True]
    assert [one.HasField("spec") for one in messages] == [True, False, False]
    assert [one.checksums.HasField("crc32c") for one in messages] == [False, False, True]
    assert messages[0].spec.size_bytes == len(BIG)
    assert content(double, result) == BIG


def test_messages_are_sized_by_the_servers_limits(des, double):
    double.limits.preferred_chunk_bytes = 300_000
    double.limits.max_chunk_bytes = 200_000
    result = des.put(BIG)
    assert max(len(one.chunk.data) for one in puts(double)) == 200_000
    assert double.calls["GetServerInfo"] == 1
    des.put(BIG[:150_000])
    assert double.calls["GetServerInfo"] == 1
    assert content(double, result) == BIG


def test_a_server_that_takes_less_than_a_mebibyte_is_believed_after_its_refusal(des, double):
    double.limits.preferred_chunk_bytes = 100_000
    double.limits.max_chunk_bytes = 100_000
    result = des.put(BIG[:900_000])
    assert content(double, result) == BIG[:900_000]
    assert dict(double.calls) == {"PutFile": 2, "GetServerInfo": 1}


def test_a_server_without_server_info_gets_the_defaults(des, double):
    double.fail("GetServerInfo", code="UNIMPLEMENTED")
    assert content(double, des.put(BIG)) == BIG


def test_without_verify_no_checksum_is_sent(make_client, double):
    des = make_client(verify=False)
    des.put(b"hello")
    des.put(BIG)
    assert not any(one.chunk.HasField("crc32c") or one.HasField("checksums") for one in puts(double))


class Unseekable(io.RawIOBase):
    """A pipe, in effect."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self._data.read(min(size, 70_000) if size > 0 else size)


class Pathish(os.PathLike):
    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return self._path


def at_position(data):
    file = io.BytesIO(b"skipped" + data)
    file.seek(7)
    return file


def written(path, data):
    path.write_bytes(data)
    return path


SOURCES = {
    "bytes": lambda path, data: data,
    "bytearray": lambda path, data: bytearray(data),
    "memoryview": lambda path, data: memoryview(data),
    "strided memoryview": lambda path, data: memoryview(data[::-1])[::-1],
    "path": written,
    "path-like": lambda path, data: Pathish(str(written(path, data))),
    "file": lambda path, data: written(path, data).open("rb"),
    "file from its position": lambda path, data: at_position(data),
    "unseekable file": lambda path, data: Unseekable(data),
    "generator": lambda path, data: (data[at : at + 10_000] for at in range(0, len(data), 10_000)),
    "one piece": lambda path, data: iter([data]),
    "list": lambda path, data: [data[:1], b"", data[1:]],
    "pieces of every type": lambda path, data: iter([bytearray(data[:3]), memoryview(data[3:])]),
}
KINDS = list(SOURCES)


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


@pytest.mark.parametrize(
    "spec",
    [
        {"name": ""},
        {"name": "X_1", "prefix": "P"},
        {"name": "\ud800"},
        {"prefix": "\udfff"},
        {"metadata": {"key": "\ud800"}},
        {"metadata": {"\ud800": "value"}},
        {"content_type": "\ud800"},
        {"durability": Durability.UNKNOWN},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"size": -1},
    ],
)
def test_bad_arguments_are_refused_before_any_call(des, double, spec):
    with pytest.raises(InvalidArgument):
        des.put(b"x", **spec)
    assert not double.calls


def test_odd_but_legal_metadata_arrives_unchanged(des):
    odd = {"empty": "", "nul": "\0", "wide": "🗄\u202e", "line": "a\r\nb", "": "no key", "long": "x" * 5000}
    result = des.put(b"x", metadata=odd)
    assert des.stat(result.file.name).metadata == odd


def test_metadata_of_a_wrong_type_is_a_type_error(des):
    with pytest.raises(TypeError):
        des.put(b"x", metadata={"key": 5})


# --- names and repeats -----------------------------------------------------------------------------


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


# --- progress, time --------------------------------------------------------------------------------


def test_progress_counts_up_to_the_end(des):
    seen = []
    des.put(BIG, on_progress=seen.append)
    assert seen == [Progress(done, len(BIG)) for done in (MIB, 2 * MIB, len(BIG))]
    seen.clear()
    des.put(b"hello", on_progress=seen.append)
    assert seen == [Progress(5, 5)]


def test_progress_of_an_unknown_size_has_no_total(des):
    seen = []
    des.put(iter([BIG]), on_progress=seen.append)
    assert seen[-1] == Progress(len(BIG), None)


def test_what_on_progress_raises_ends_the_put(des, double):
    def stop(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        des.put(BIG, on_progress=stop)
    assert not double.files


@pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
def test_a_silent_server_ends_a_put_at_its_timeout(des, server, data):
    server.double.fail("PutFile", delay_s=20)
    with pytest.raises(DeadlineExceeded) as failed:
        des.put(data, timeout_s=0.2)
    assert isinstance(failed.value, TimeoutError)
    server.wait_until(lambda double: double.cancelled == 1)


def test_a_server_that_stalls_in_the_middle_ends_a_put(des, double):
    double.fail("PutFile", at_byte=1, stall_s=20)
    with pytest.raises(DeadlineExceeded):
        des.put(bytes(64 * MIB), timeout_s=0.3)


def test_a_call_that_takes_long_to_begin_is_cut_off_as_well(server, monkeypatch):
    # On a busy machine the time can be over before there is a call to cancel: nobody cancelled it then.
    server.double.fail("PutFile", delay_s=100)
    with DesClient(server.target, retry=None) as des:
        stub = des._channels[0].files
        begin = stub.PutFile.future

        def late(*args, **kwargs):
            time.sleep(0.6)
            return begin(*args, **kwargs)

        monkeypatch.setattr(stub, "PutFile", SimpleNamespace(future=late))
        with pytest.raises(DeadlineExceeded):
            # Of unknown size: gRPC itself sets no deadline.
            des.put((bytes(MIB) for _ in range(3)), timeout_s=0.2)


def test_an_attempt_that_stalls_is_given_up_for_another(make_client, double):
    des = make_client(retry=RetryConfig(attempt_timeout_s=0.2, backoff_initial_s=0.001, backoff_max_s=0.001))
    double.fail("PutFile", delay_s=20)
    assert des.put(b"small").file.size_bytes == 5
    double.fail("PutFile", delay_s=20)
    assert content(double, des.put(BIG)) == BIG


def test_the_server_learns_the_deadline(des, double):
    des.put(b"x", timeout_s=7)
    assert 6 < double.deadlines[-1] < 7.1
    des.put(BIG, timeout_s=7)
    assert 16 < double.deadlines[-1] < 7.1 + len(BIG) / (256 << 10)


def test_a_slow_source_that_keeps_moving_is_not_cut_off(des, double):
    pause = threading.Event()

    def slow():
        for _ in range(6):
            pause.wait(0.1)
            yield bytes(MIB)

    assert des.put(slow(), timeout_s=0.4).file.size_bytes == 6 * MIB
