"""From a gRPC status to an error: every code, every reason, every odd trailer."""

import builtins
import errno
import pickle

import des_client
import grpc
import pytest
from des_client import errors
from des_client.errors import BY_CODE, BY_REASON, DesClientError, StatusCode, from_call
from des_proto.v1 import errors_pb2
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

# errors.proto, comment of each value.
CODE_OF_REASON = {
    "INVALID_FIELD": "INVALID_ARGUMENT",
    "INVALID_NAME": "INVALID_ARGUMENT",
    "FILE_TOO_LARGE": "INVALID_ARGUMENT",
    "UPLOAD_CHECKSUM_MISMATCH": "INVALID_ARGUMENT",
    "OFFSET_MISMATCH": "INVALID_ARGUMENT",
    "RANGE_NOT_SATISFIABLE": "OUT_OF_RANGE",
    "FILE_NOT_FOUND": "NOT_FOUND",
    "FILE_DELETED": "NOT_FOUND",
    "UPLOAD_NOT_FOUND": "NOT_FOUND",
    "SHARD_NOT_FOUND": "NOT_FOUND",
    "NAME_CONFLICT": "ALREADY_EXISTS",
    "REQUEST_ID_CONFLICT": "ALREADY_EXISTS",
    "SHARD_READ_ONLY": "FAILED_PRECONDITION",
    "CONCURRENT_UPLOAD": "ABORTED",
    "QUOTA_EXCEEDED": "RESOURCE_EXHAUSTED",
    "SHARD_BACKPRESSURE": "UNAVAILABLE",
    "BACKEND_UNAVAILABLE": "UNAVAILABLE",
    "SHUTTING_DOWN": "UNAVAILABLE",
    "NOT_SHARD_OWNER": "UNAVAILABLE",
    "CONTAINER_CORRUPT": "DATA_LOSS",
    "CREDENTIALS_INVALID": "UNAUTHENTICATED",
    "PERMISSION_DENIED": "PERMISSION_DENIED",
    "FEATURE_DISABLED": "UNIMPLEMENTED",
    "WATCH_REVISION_COMPACTED": "OUT_OF_RANGE",
    "PAGE_TOKEN_INVALID": "INVALID_ARGUMENT",
    "UPLOAD_SIZE_MISMATCH": "INVALID_ARGUMENT",
    "METADATA_TOO_LARGE": "INVALID_ARGUMENT",
    "STREAM_INCOMPLETE": "INVALID_ARGUMENT",
    "DISK_FULL": "RESOURCE_EXHAUSTED",
    "LOG_FAILED": "UNAVAILABLE",
    "LOG_DAMAGED": "UNAVAILABLE",
    "SERVER_BUSY": "UNAVAILABLE",
    "CLOCK_BEHIND": "UNAVAILABLE",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "INTERNAL": "INTERNAL",
    "LOG_CORRUPT": "DATA_LOSS",
    "MESSAGE_TOO_LARGE": "INVALID_ARGUMENT",
    "BACKEND_REFUSED": "FAILED_PRECONDITION",
}


class Failed:
    def __init__(self, code, message="message", trailers=()):
        self._code, self._message, self._trailers = code, message, trailers

    def code(self):
        return self._code

    def details(self):
        return self._message

    def trailing_metadata(self):
        return self._trailers


def rich(code, *details, message="message", extra=()):
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return Failed(code, message, (("grpc-status-details-bin", status.SerializeToString()), *extra))


def info(reason, domain="des.storage", **metadata):
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def test_every_code_has_a_kind():
    assert set(BY_CODE) == set(StatusCode)
    assert {one.name for one in grpc.StatusCode} - {"OK"} == {one.value for one in StatusCode}


def test_every_reason_of_the_protocol_is_known_here():
    reasons = {one.removeprefix("ERROR_REASON_") for one in errors_pb2.ErrorReason.keys()}
    assert reasons - {"UNSPECIFIED"} == set(CODE_OF_REASON)
    assert set(BY_REASON) <= reasons


@pytest.mark.parametrize(("reason", "code"), CODE_OF_REASON.items())
def test_every_reason_becomes_an_error_of_its_kind(reason, code):
    error = from_call(rich(grpc.StatusCode[code], info(reason, key="value")))
    assert error.reason == reason
    assert error.code == code
    assert error.metadata == {"key": "value"}
    assert type(error) is BY_REASON.get(reason, BY_CODE[StatusCode(code)])
    assert str(error) == "message"


@pytest.mark.parametrize("code", [one for one in grpc.StatusCode if one.name != "OK"])
def test_a_bare_status_becomes_an_error_of_its_kind(code):
    error = from_call(Failed(code, ""))
    assert type(error) is BY_CODE[StatusCode(code.name)]
    assert str(error) == code.name
    assert (error.reason, error.metadata, error.retry_after_s, error.request_id) == ("", {}, None, None)


def test_retry_info_is_in_seconds():
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1250)
    error = from_call(rich(grpc.StatusCode.RESOURCE_EXHAUSTED, info("QUOTA_EXCEEDED"), retry))
    assert error.retry_after_s == 1.25
    assert error.retryable


def test_a_negative_retry_delay_is_zero():
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = -5
    assert from_call(rich(grpc.StatusCode.UNAVAILABLE, retry)).retry_after_s == 0


def test_other_domains_do_not_speak_for_des():
    error = from_call(rich(grpc.StatusCode.NOT_FOUND, info("FILE_NOT_FOUND", domain="elsewhere")))
    assert error.reason == ""
    assert type(error) is errors.NotFound


def test_details_that_are_no_status_are_passed_over():
    error = from_call(Failed(grpc.StatusCode.NOT_FOUND, "x", (("grpc-status-details-bin", b"\xff\xff"),)))
    assert type(error) is errors.NotFound


def test_no_trailers_at_all_are_fine():
    assert type(from_call(Failed(grpc.StatusCode.NOT_FOUND, None, None))) is errors.NotFound


def test_request_ids_come_from_the_server_first():
    code = grpc.StatusCode.INTERNAL
    assert from_call(Failed(code), request_id="ours").request_id == "ours"
    echoed = Failed(code, "x", (("des-request-id", "theirs"),))
    assert from_call(echoed, request_id="ours").request_id == "theirs"
    named = rich(code, info("INTERNAL", request_id="named"), extra=(("des-request-id", "theirs"),))
    assert from_call(named, request_id="ours").request_id == "named"


@pytest.mark.parametrize("text", ["Received RST_STREAM with error code 2", "Stream removed", "Socket closed"])
@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "CANCELLED"])
def test_a_lost_connection_by_another_name_is_unavailable(text, code):
    error = from_call(Failed(grpc.StatusCode[code], text))
    assert type(error) is errors.Unavailable
    assert error.code == code
    assert type(from_call(rich(grpc.StatusCode.INTERNAL, info("INTERNAL"), message=text))) is errors.Internal


@pytest.mark.parametrize(
    ("kind", "builtin", "number"),
    [
        ("FileMissing", "FileNotFoundError", errno.ENOENT),
        ("NameConflict", "FileExistsError", errno.EEXIST),
        ("InvalidArgument", "ValueError", None),
        ("RangeNotSatisfiable", "ValueError", None),
        ("DiskFull", "OSError", errno.ENOSPC),
        ("Unavailable", "ConnectionError", None),
        ("UploadInterrupted", "ConnectionError", None),
        ("DeadlineExceeded", "TimeoutError", errno.ETIMEDOUT),
        ("FeatureDisabled", "NotImplementedError", None),
        ("Unauthenticated", "PermissionError", errno.EACCES),
        ("PermissionDenied", "PermissionError", errno.EPERM),
        ("NotFound", "LookupError", None),
        ("WrongLoop", "RuntimeError", None),
    ],
)
def test_errors_fit_the_builtins(kind, builtin, number):
    error = getattr(des_client, kind)("what happened")
    assert isinstance(error, getattr(builtins, builtin))
    assert isinstance(error, DesClientError)
    assert str(error) == "what happened"
    assert getattr(error, "errno", None) == number


def test_every_error_is_public():
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, DesClientError)
    }
    assert kinds <= set(des_client.__all__)


def test_errors_survive_pickling():
    error = errors.QuotaExceeded("x", reason="QUOTA_EXCEEDED", metadata={"a": "b"}, retry_after_s=2)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.reason, copy.metadata, copy.retry_after_s) == ("x", error.reason, {"a": "b"}, 2)
    assert str(pickle.loads(pickle.dumps(errors.FileMissing("gone")))) == "gone"
