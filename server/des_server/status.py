"""Errors as gRPC statuses: one table, one builder (proto/des_proto/v1/errors.proto).

Code and message of the `google.rpc.Status` in the trailers are those of the call itself;
`grpc_status.rpc_status.from_call` refuses a call where they differ.
"""

from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from des.errors import DesError

DOMAIN: Final = "des.storage"
STATUS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Stock gRPC clients obey this trailer (gRFC A6) and know nothing of RetryInfo; both are sent."""

MESSAGE_CHARACTERS_MAX: Final = 512
DETAIL_CHARACTERS_MAX: Final = 256
DETAILS_MAX: Final = 16
"""A client refuses trailers over 8 KiB, and the message stands in them twice."""

CODES: Final[dict[str, grpc.StatusCode]] = {
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_NAME": grpc.StatusCode.INVALID_ARGUMENT,
    "FILE_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "UPLOAD_CHECKSUM_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "OFFSET_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "RANGE_NOT_SATISFIABLE": grpc.StatusCode.OUT_OF_RANGE,
    "FILE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "FILE_DELETED": grpc.StatusCode.NOT_FOUND,
    "UPLOAD_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SHARD_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "NAME_CONFLICT": grpc.StatusCode.ALREADY_EXISTS,
    "REQUEST_ID_CONFLICT": grpc.StatusCode.ALREADY_EXISTS,
    "SHARD_READ_ONLY": grpc.StatusCode.FAILED_PRECONDITION,
    "CONCURRENT_UPLOAD": grpc.StatusCode.ABORTED,
    "QUOTA_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "SHARD_BACKPRESSURE": grpc.StatusCode.UNAVAILABLE,
    "BACKEND_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "SHUTTING_DOWN": grpc.StatusCode.UNAVAILABLE,
    "NOT_SHARD_OWNER": grpc.StatusCode.UNAVAILABLE,
    "CONTAINER_CORRUPT": grpc.StatusCode.DATA_LOSS,
    "CREDENTIALS_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "FEATURE_DISABLED": grpc.StatusCode.UNIMPLEMENTED,
    "WATCH_REVISION_COMPACTED": grpc.StatusCode.OUT_OF_RANGE,
    "PAGE_TOKEN_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "UPLOAD_SIZE_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "METADATA_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "STREAM_INCOMPLETE": grpc.StatusCode.INVALID_ARGUMENT,
    "DISK_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "LOG_FAILED": grpc.StatusCode.UNAVAILABLE,
    "LOG_DAMAGED": grpc.StatusCode.UNAVAILABLE,
    "SERVER_BUSY": grpc.StatusCode.UNAVAILABLE,
    "CLOCK_BEHIND": grpc.StatusCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
    "LOG_CORRUPT": grpc.StatusCode.DATA_LOSS,
    "MESSAGE_TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "BACKEND_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
}
"""The code of each reason, as errors.proto documents it: a client never sees another pair."""

RETRY_AFTER_S: Final[dict[str, float]] = {
    "QUOTA_EXCEEDED": 5.0,
    "SHARD_BACKPRESSURE": 1.0,
    "BACKEND_UNAVAILABLE": 1.0,
    "SHUTTING_DOWN": 1.0,
    "NOT_SHARD_OWNER": 0.2,
    "DISK_FULL": 30.0,
    "SERVER_BUSY": 1.0,
    "CLOCK_BEHIND": 0.5,
}
"""The reasons that always carry RetryInfo, with the wait for an error that names none."""

FIELD_REASONS: Final = frozenset({"INVALID_FIELD", "METADATA_TOO_LARGE"})
"""The reasons that carry BadRequest."""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """What a failed call ends with."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]


def reason_of(error: DesError) -> str:
    """Return the error's reason, or that of its nearest class whose reason the protos know."""
    return next(
        reason for kind in type(error).__mro__ if (reason := getattr(kind, "reason", "INTERNAL")) in CODES
    )


def status_of(error: DesError) -> CallStatus:
    """Translate a deliberate error that ends a call."""
    rich, wait_s = _describe(error)
    return _ending(CODES[reason_of(error)], rich, wait_s=wait_s)


def item_status(error: DesError) -> status_pb2.Status:
    """Translate an error that one item of a batch met: what a call for it alone would end with."""
    return _describe(error)[0]


def _describe(error: DesError) -> tuple[status_pb2.Status, float | None]:
    """Return the rich status of an error and when to try again, in seconds."""
    reason = reason_of(error)
    text = _clean(str(error), MESSAGE_CHARACTERS_MAX)
    facts = {
        key: _clean(value, DETAIL_CHARACTERS_MAX) for key, value in list(error.details.items())[:DETAILS_MAX]
    }
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=facts)
    ]
    if reason in FIELD_REASONS:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=facts.get("field", ""), description=text
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if reason == "QUOTA_EXCEEDED":
        quota = error_details_pb2.QuotaFailure.Violation(subject=facts.get("quota", ""), description=text)
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    wait_s = RETRY_AFTER_S.get(reason) if error.retry_after_s is None else error.retry_after_s
    return _rich(CODES[reason], text, details, wait_s=wait_s), wait_s


def info_in(status: bytes) -> tuple[str, dict[str, str]]:
    """Return the reason in a serialized `google.rpc.Status` and its facts; empty where there is none."""
    rich = status_pb2.Status.FromString(status)
    info = error_details_pb2.ErrorInfo()
    for detail in rich.details:
        if detail.Unpack(info):
            return info.reason, dict(info.metadata)
    return "", {}


def internal_status(request_id: str) -> CallStatus:
    """Describe a defect of the server without telling what it is; the log has it under this id."""
    text = f"internal error, see the server's log for request {request_id}"
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id})
    code = grpc.StatusCode.INTERNAL
    return _ending(code, _rich(code, text, [info], wait_s=None), wait_s=None)


def _rich(
    code: grpc.StatusCode, text: str, details: list[message.Message], *, wait_s: float | None
) -> status_pb2.Status:
    if wait_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(_milliseconds(wait_s))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=code.value[0], message=text, details=[_packed(detail) for detail in details]
    )


def _ending(code: grpc.StatusCode, rich: status_pb2.Status, *, wait_s: float | None) -> CallStatus:
    trailers: list[tuple[str, str | bytes]] = []
    if wait_s is not None:
        trailers.append((PUSHBACK_KEY, str(_milliseconds(wait_s))))
    trailers.append((STATUS_KEY, rich.SerializeToString()))
    return CallStatus(code, rich.message, tuple(trailers))


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _clean(text: str, characters_max: int) -> str:
    """Return valid Unicode of a bounded length: messages may quote a stranger's bytes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
