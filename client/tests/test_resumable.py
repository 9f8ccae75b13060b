"""Large uploads that go on where the server lost them."""

import pytest
from des_client import InvalidArgument, RetryConfig, Unavailable
from des_client.upload import Upload
from des_proto.v1 import file_service_pb2

MIB = 1 << 20
LARGE = bytes(range(256)) * 4096 * 10 + b"tail"  # 10 MiB and a bit


@pytest.fixture
def double(double):
    double.features = ["batch", "resumable_uploads"]
    return double


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return path


def offsets(double):
    return [one.write_offset for one in double.requests if type(one).__name__ == "PutFileRequest"]


def test_a_large_file_is_a_resumable_upload(des, double, path):
    result = des.put(path, content_type="text/plain")
    assert double.files[result.file.name].content == LARGE
    assert result.file.content_type == "text/plain"
    assert double.calls["StartUpload"] == double.calls["PutFile"] == 1


def test_a_file_worth_less_is_not(des, double):
    des.put(bytes(4 * MIB))
    assert double.calls["StartUpload"] == 0


def test_what_comes_once_is_not(des, double):
    des.put(iter([LARGE]), size=len(LARGE))
    assert double.calls["StartUpload"] == 0


@pytest.mark.parametrize("lag", [0, 1, 300_000, MIB, 2 * MIB + 5])
@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_a_broken_upload_goes_on_where_the_server_stands(des, double, path, lag, kind):
    double.upload_lag = lag
    double.fail("PutFile", code="UNAVAILABLE", at_byte=4 * MIB)
    told = []
    result = des.put(path if kind == "path" else LARGE, on_progress=told.append)
    assert double.files[result.file.name].content == LARGE
    assert double.calls["StartUpload"] == 1
    assert double.calls["GetUploadStatus"] == 1
    assert 4 * MIB - lag in offsets(double)
    assert offsets(double).count(0) == 1
    assert told[-1].done_bytes == len(LARGE)


def test_many_breaks_with_progress_do_not_use_up_the_attempts(make_client, double, path):
    des = make_client(retry=RetryConfig(attempts=2, backoff_initial_s=0, backoff_max_s=0))
    for at in range(2, 9):
        double.fail("PutFile", code="UNAVAILABLE", at_byte=at * MIB)
    result = des.put(path)
    assert double.files[result.file.name].content == LARGE


def test_a_finished_upload_whose_answer_was_lost_is_finished(des, double, path):
    double.fail("PutFile", code="UNAVAILABLE", after_effect=True)
    result = des.put(path)
    assert double.files[result.file.name].content == LARGE
    assert double.calls["PutFile"] == 1


def test_a_forgotten_upload_starts_again(des, double, path):
    double.fail("PutFile", code="UNAVAILABLE", at_byte=4 * MIB)
    double.fail("GetUploadStatus", code="NOT_FOUND", reason="UPLOAD_NOT_FOUND")
    result = des.put(path)
    assert double.files[result.file.name].content == LARGE
    assert double.calls["StartUpload"] == 2


def test_a_server_that_does_not_know_them_after_all_gets_a_plain_put(des, double, path):
    double.fail("StartUpload", code="UNIMPLEMENTED", reason="FEATURE_DISABLED")
    result = des.put(path)
    assert double.files[result.file.name].content == LARGE


def test_an_upload_that_cannot_go_on_is_cancelled(des, double, path):
    double.fail("PutFile", code="FAILED_PRECONDITION", reason="SHARD_READ_ONLY", at_byte=2 * MIB)
    with pytest.raises(Exception, match="a fault on order"):
        des.put(path)
    assert double.calls["CancelUpload"] == 1
    assert not double.uploads


def test_a_server_that_stays_away_ends_it_and_the_upload_stays(make_client, double, path):
    des = make_client(retry=RetryConfig(attempts=2, backoff_initial_s=0, backoff_max_s=0))
    double.fail("PutFile", code="UNAVAILABLE", times=9)
    with pytest.raises(Unavailable):
        des.put(path)
    assert double.calls["CancelUpload"] == 0


def test_a_size_that_is_wrong_is_refused(des, double, tmp_path):
    plan = Upload(file_service_pb2.FileSpec(), 10, with_checksums=True)
    with pytest.raises(Exception, match="keeps 11 bytes"):
        plan.resume(11)
    with pytest.raises(InvalidArgument):
        plan.message(b"x" * 11, last=False)
