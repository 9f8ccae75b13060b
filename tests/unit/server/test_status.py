import importlib
import pkgutil
import re
from pathlib import Path

import des_proto
import des_server
import grpc
import pytest
from des_proto.v1.errors_pb2 import ErrorReason
from des_server.status import CODES, FIELD_REASONS, RETRY_AFTER_S, internal_status, status_of
from google.rpc import error_details_pb2, status_pb2

import des
from des import errors
from des.errors import DesError, ExhaustedError, InvalidInputError, NotFoundError, UnavailableError

ERRORS_PROTO = Path(des_proto.__file__).parent / "v1" / "errors.proto"


def documented():
    """Reason -> (code, what stands in parentheses), as errors.proto says."""
    rows = {}
    comment = ""
    for line in ERRORS_PROTO.read_text().splitlines():
        line = line.strip()
        if line.startswith("//"):
            comment = comment or line[2:].strip()
        elif found := re.match(r"ERROR_REASON_(\w+) = \d+;", line):
            head = re.match(r"([A-Z_]+)(?: \(\+([^)]*)\))?:", comment)
            if head:
                rows[found[1]] = (head[1], set((head[2] or "").split(", ")) - {""})
            comment = ""
    return rows


REASONS = documented()
KINDS = {
    errors.InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRangeError: grpc.StatusCode.OUT_OF_RANGE,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.ConflictError: grpc.StatusCode.ABORTED,
    errors.PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.CorruptError: grpc.StatusCode.DATA_LOSS,
    errors.DisabledError: grpc.StatusCode.UNIMPLEMENTED,
    errors.DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CredentialsError: grpc.StatusCode.UNAUTHENTICATED,
    errors.DeniedError: grpc.StatusCode.PERMISSION_DENIED,
    DesError: grpc.StatusCode.INTERNAL,
}


def all_errors():
    for package in (des, des_server):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)
    found, todo = [], [DesError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return [kind for kind in found if kind.__module__.startswith(("des.", "des_server."))]


def unpacked(status):
    rich = status_pb2.Status.FromString(dict(status.trailers)["grpc-status-details-bin"])
    details = {}
    for packed in rich.details:
        name = packed.TypeName().rpartition(".")[2]
        details[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(details[name])
    return rich, details


def test_every_kind_of_error_has_its_code():
    assert {kind for kind in all_errors() if kind.__module__ == "des.errors"} == set(KINDS)
    assert {kind: status_of(kind("m")).code for kind in KINDS} == KINDS


def test_every_reason_has_the_code_that_the_protos_document():
    assert {reason: code.name for reason, code in CODES.items()} == {
        reason: code for reason, (code, _) in REASONS.items()
    }
    assert set(CODES) == {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED"}


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__qualname__)
def test_every_error_has_a_documented_reason(kind):
    assert kind.reason in CODES


def test_a_reason_nobody_documented_gives_way_to_that_of_its_kind():
    class OddError(NotFoundError):
        reason = "ODD"

    status = status_of(OddError("m"))
    _, details = unpacked(status)
    assert status.code is grpc.StatusCode.NOT_FOUND
    assert details["ErrorInfo"].reason == "FILE_NOT_FOUND"


def test_the_reasons_that_promise_retry_info_are_those_documented():
    assert set(RETRY_AFTER_S) == {reason for reason, (_, extra) in REASONS.items() if "RetryInfo" in extra}
    assert set(FIELD_REASONS) == {reason for reason, (_, extra) in REASONS.items() if "BadRequest" in extra}


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__qualname__)
def test_a_status_says_the_same_inside_and_outside(kind):
    status = status_of(kind("what was found", field="f", quota="q"))
    rich, details = unpacked(status)
    assert (rich.code, rich.message) == (status.code.value[0], status.message)
    assert status.message == "what was found"
    assert details["ErrorInfo"].domain == "des.storage"
    assert details["ErrorInfo"].reason == kind.reason
    assert dict(details["ErrorInfo"].metadata) == {"field": "f", "quota": "q"}
    assert set(details) - {"ErrorInfo"} == REASONS[kind.reason][1]
    assert ("grpc-retry-pushback-ms" in dict(status.trailers)) == ("RetryInfo" in details)


def test_the_wait_of_an_error_is_the_wait_of_its_status():
    status = status_of(UnavailableError("m", retry_after_s=2.5))
    _, details = unpacked(status)
    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 2500
    assert dict(status.trailers)["grpc-retry-pushback-ms"] == "2500"


def test_a_bad_field_is_named():
    _, details = unpacked(status_of(InvalidInputError("too odd", field="spec.name")))
    (violation,) = details["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("spec.name", "too odd")


def test_a_quota_is_named():
    _, details = unpacked(status_of(ExhaustedError("full", quota="bytes", limit=5)))
    (violation,) = details["QuotaFailure"].violations
    assert violation.subject == "bytes"


def test_trailers_stay_small_and_valid_whatever_the_message_quotes():
    status = status_of(NotFoundError("\udcff\u20ac" * 5000, **{f"k{n}": "\ud800" * 5000 for n in range(50)}))
    assert sum(len(key) + len(value) for key, value in status.trailers) * 4 / 3 < 7 << 10
    status.message.encode()


def test_an_internal_error_names_only_its_request():
    status = internal_status("id-1")
    _, details = unpacked(status)
    assert status.code is grpc.StatusCode.INTERNAL
    assert dict(details["ErrorInfo"].metadata) == {"request_id": "id-1"}
