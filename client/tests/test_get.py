"""Reading files: ranges, checks, resuming, targets."""

import io

import pytest
from des_client import (
    ChecksumMismatch,
    DataLoss,
    DeadlineExceeded,
    FileMissing,
    InvalidArgument,
    NotFound,
    Progress,
    RangeNotSatisfiable,
    RetryConfig,
    Unavailable,
)

MIB = 1 << 20
BIG = bytes(range(256)) * (10 * 1024) + b"tail"


def ranges(double):
    return [
        (one.range.offset, one.range.limit)
        for one in double.requests
        if type(one).__name__ == "GetFileRequest"
    ]


@pytest.mark.parametrize("size", [0, 1, 1000, MIB, MIB + 1, len(BIG)])
def test_a_file_of_any_length_comes_back_in_one_call(des, double, size):
    name = double.add(BIG[:size])
    assert des.get(name) == BIG[:size]
    assert dict(double.calls) == {"GetFile": 1}


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [
        (0, None, BIG),
        (5, None, BIG[5:]),
        (5, 10, BIG[5:15]),
        (0, 1, BIG[:1]),
        (-4, None, b"tail"),
        (-4, 2, b"ta"),
        (len(BIG), None, b""),
        (len(BIG) - 1, 100, b"l"),
        (100, 2 * MIB, BIG[100 : 100 + 2 * MIB]),
        (0, 0, b""),
        (len(BIG), 0, b""),
        (-4, 0, b""),
    ],
)
def test_a_range_is_what_slicing_gives(des, double, offset, limit, expected):
    assert des.get(double.add(BIG), offset=offset, limit=limit) == expected


@pytest.mark.parametrize("limit", [None, 0, 1])
def test_a_range_that_starts_past_the_end_is_refused(des, double, limit):
    with pytest.raises(RangeNotSatisfiable) as failed:
        des.get(double.add(b"hello"), offset=6, limit=limit)
    assert failed.value.metadata == {"offset": "6", "size": "5"}
    assert isinstance(failed.value, ValueError)


def test_a_negative_limit_is_refused_before_any_call(des, double):
    with pytest.raises(InvalidArgument):
        des.get("x", limit=-1)
    assert not double.calls


def test_a_missing_file_is_a_file_not_found_error(des):
    for call in (des.get, des.stat, des.open):
        with pytest.raises(FileMissing, match="no file 'nope'") as failed:
            call("nope")
        assert isinstance(failed.value, FileNotFoundError)
        assert isinstance(failed.value, NotFound)
        assert failed.value.metadata == {"name": "nope"}
        assert failed.value.request_id == "server-made-id"


def test_a_name_that_is_not_unicode_is_refused_before_any_call(des, double):
    for call in (des.get, des.stat):
        with pytest.raises(InvalidArgument):
            call("\ud800")
    assert not double.calls


def test_exists_is_false_only_for_a_missing_file(make_client, double):
    des = make_client(retry=None)
    assert des.exists(double.add(b""))
    assert not des.exists("nope")
    double.fail("StatFile", code="UNAVAILABLE")
    with pytest.raises(Unavailable):
        des.exists("nope")


# --- wrong bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at_byte", [0, MIB, len(BIG) - 1])
@pytest.mark.parametrize(("fault", "scope"), [("flip_chunk", "chunk"), ("flip_file", "file")])
def test_changed_bytes_are_never_handed_out(des, double, at_byte, fault, scope):
    name = double.add(BIG)
    double.fail("GetFile", at_byte=at_byte, **{fault: True})
    with pytest.raises(ChecksumMismatch) as failed:
        des.get(name)
    assert failed.value.metadata["scope"] == scope
    assert dict(double.calls) == {"GetFile": 1}


def test_a_small_file_with_a_wrong_checksum_is_not_handed_out(des, double):
    name = double.add(b"hello")
    double.fail("GetFile", flip_file=True)
    with pytest.raises(ChecksumMismatch):
        des.get(name)


def test_without_verify_the_caller_gets_what_came(make_client, double):
    name = double.add(b"hello")
    double.fail("GetFile", flip_chunk=True)
    assert make_client(verify=False).get(name) == b"iello"


# --- resuming --------------------------------------------------------------------------------------


def test_a_download_cut_in_the_middle_goes_on_where_it_stood(des, double):
    name = double.add(BIG)
    double.fail("GetFile", code="UNAVAILABLE", at_byte=MIB)
    double.fail("GetFile", code="UNAVAILABLE", at_byte=MIB)
    assert des.get(name) == BIG
    assert ranges(double) == [(0, 0), (MIB, len(BIG) - MIB), (2 * MIB, len(BIG) - 2 * MIB)]


@pytest.mark.parametrize(("offset", "limit"), [(7, 2 * MIB), (-len(BIG) + 7, 2 * MIB), (7, 10 * MIB)])
def test_a_range_cut_in_the_middle_goes_on_too(des, double, offset, limit):
    name = double.add(BIG)
    double.fail("GetFile", code="UNAVAILABLE", at_byte=MIB)
    assert des.get(name, offset=offset, limit=limit) == BIG[7:][:limit]
    stop = min(len(BIG), 7 + limit)
    assert ranges(double) == [(offset, limit), (7 + MIB, stop - 7 - MIB)]


def test_a_stream_that_ends_early_goes_on_too(des, double):
    name = double.add(BIG)
    double.fail("GetFile", end_early=True, at_byte=MIB)
    assert des.get(name) == BIG


def test_a_failure_after_the_last_byte_is_no_failure(des, double):
    name = double.add(BIG)
    double.fail("GetFile", code="UNAVAILABLE", after_effect=True)
    assert des.get(name) == BIG
    assert double.calls["GetFile"] == 1


def test_resuming_refuses_another_file(des, double):
    name = double.add(BIG)
    double.fail("GetFile", code="UNAVAILABLE", at_byte=MIB)
    double.fail("GetFile", other_file=True)
    with pytest.raises(DataLoss, match="found a file of"):
        des.get(name)


def test_progress_renews_the_attempts(make_client, double):
    des = make_client(retry=RetryConfig(attempts=2, backoff_initial_s=0, backoff_max_s=0))
    double.chunk_bytes = 64 * 1024
    name = double.add(BIG)
    double.fail("GetFile", code="UNAVAILABLE", at_byte=64 * 1024, times=20)
    assert des.get(name) == BIG
    double.fail("GetFile", code="UNAVAILABLE", times=2)
    with pytest.raises(Unavailable) as failed:
        des.get(name)
    assert failed.value.__notes__ == ["given up after 2 attempts"]


# --- progress, time --------------------------------------------------------------------------------


def test_progress_counts_up_to_the_end(des, double):
    name = double.add(BIG)
    seen = []
    des.get(name, on_progress=seen.append)
    assert seen == [Progress(done, len(BIG)) for done in (MIB, 2 * MIB, len(BIG))]


def test_what_on_progress_raises_ends_the_download(des, server):
    name = server.double.add(bytes(32 * MIB))

    def stop(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        des.get(name, on_progress=stop)
    server.wait_until(lambda double: double.downloads_open == 0)


def test_a_silent_server_ends_a_download_at_its_timeout(des, server):
    name = server.double.add(b"x")
    server.double.fail("GetFile", delay_s=20)
    with pytest.raises(DeadlineExceeded) as failed:
        des.get(name, timeout_s=0.2)
    assert isinstance(failed.value, TimeoutError)
    server.wait_until(lambda double: double.cancelled == 1)


def test_a_server_that_stalls_in_the_middle_ends_a_download(des, double):
    name = double.add(BIG)
    double.fail("GetFile", at_byte=MIB, stall_s=20)
    with pytest.raises(DeadlineExceeded, match=f"byte {MIB}"):
        des.get(name, timeout_s=0.2)


def test_an_attempt_that_stalls_is_given_up_for_another(make_client, double):
    des = make_client(retry=RetryConfig(attempt_timeout_s=0.2, backoff_initial_s=0, backoff_max_s=0))
    name = double.add(BIG)
    double.fail("GetFile", at_byte=MIB, stall_s=20)
    assert des.get(name) == BIG
    assert ranges(double)[1] == (MIB, len(BIG) - MIB)


# --- targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_path", [str, lambda path: path])
@pytest.mark.parametrize("data", [b"", b"hello", BIG], ids=["empty", "small", "big"])
def test_a_path_gets_the_whole_file(des, double, tmp_path, data, as_path):
    name = double.add(data, content_type="text/plain")
    info = des.get_to(name, as_path(tmp_path / "out"), fsync=True)
    assert (tmp_path / "out").read_bytes() == data
    assert info == des.stat(name)


def test_a_file_at_the_path_is_replaced(des, double, tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    des.get_to(double.add(b"new"), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"new"


def test_a_new_file_has_the_usual_permissions(des, double, tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    des.get_to(double.add(b"new"), tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"code": "DATA_LOSS", "reason": "CONTAINER_CORRUPT"}, DataLoss),
        ({"code": "DATA_LOSS", "reason": "CONTAINER_CORRUPT", "at_byte": MIB}, DataLoss),
        ({"flip_file": True, "at_byte": len(BIG) - 1}, ChecksumMismatch),
    ],
)
def test_a_failure_leaves_what_was_there_and_nothing_else(des, double, tmp_path, fault, error):
    (tmp_path / "out").write_bytes(b"old")
    name = double.add(BIG)
    double.fail("GetFile", **fault)
    with pytest.raises(error):
        des.get_to(name, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_a_missing_file_leaves_nothing(des, tmp_path):
    with pytest.raises(FileMissing):
        des.get_to("nope", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_target(des, double, tmp_path):
    with pytest.raises(IsADirectoryError):
        des.get_to(double.add(b"x"), tmp_path)
    assert not double.calls


def test_a_name_too_long_for_a_suffix_still_works(des, double, tmp_path):
    target = tmp_path / ("n" * 255)
    des.get_to(double.add(b"x"), target)
    assert target.read_bytes() == b"x"


def test_a_binary_file_is_written_from_where_it_stands(des, double):
    target = io.BytesIO(b"head")
    target.seek(4)
    name = double.add(BIG)
    double.fail("GetFile", code="UNAVAILABLE", at_byte=MIB)
    des.get_to(name, target)
    assert target.getvalue() == b"head" + BIG


class Bitewise(io.RawIOBase):
    """Takes a few bytes at a time, as a raw file may."""

    def __init__(self):
        self.taken = b""

    def write(self, data):
        bite = bytes(data[:100_000])
        self.taken += bite
        return len(bite)


def test_a_raw_file_that_takes_bites_gets_everything(des, double):
    target = Bitewise()
    des.get_to(double.add(BIG), target)
    assert target.taken == BIG


def test_a_part_can_go_to_a_path(des, double, tmp_path):
    des.get_to(double.add(BIG), tmp_path / "out", offset=-4, limit=3)
    assert (tmp_path / "out").read_bytes() == b"tai"


def test_a_target_that_fails_ends_the_download(des, server):
    class Full(io.RawIOBase):
        def write(self, data):
            raise OSError(28, "No space left on device")

    name = server.double.add(bytes(32 * MIB))
    with pytest.raises(OSError, match="No space left"):
        des.get_to(name, Full())
    server.wait_until(lambda double: double.downloads_open == 0)
