"""Errors as gRPC statuses: one table, one builder (proto/des_proto/v1/errors.proto).

Code and message of the `google.rpc.Status` in the trailers are those of the call itself;
`grpc_status.rpc_status.from_call` refuses a call where they differ.
"""

from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from des.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    DeadlineError,
    DesError,
    DisabledError,
    ExhaustedError,
    InvalidInputError,
    NotFoundError,
    OutOfRangeError,
    PreconditionError,
    UnavailableError,
)

DOMAIN: Final = "des.storage"
STATUS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""Stock gRPC clients obey this trailer (gRFC A6) and know nothing of RetryInfo; both are sent."""

MESSAGE_CHARACTERS_MAX: Final = 512
DETAIL_CHARACTERS_MAX: Final = 256
DETAILS_MAX: Final = 16
"""A client refuses trailers over 8 KiB, and the message stands in them twice."""

CODES: Final[dict[type[DesError], grpc.StatusCode]] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    OutOfRangeError: grpc.StatusCode.OUT_OF_RANGE,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    ConflictError: grpc.StatusCode.ABORTED,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    CorruptError: grpc.StatusCode.DATA_LOSS,
    DisabledError: grpc.StatusCode.UNIMPLEMENTED,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DesError: grpc.StatusCode.INTERNAL,
}

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


def code_of(error: DesError) -> grpc.StatusCode:
    """Return the code of the nearest kind among the error's classes."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def status_of(error: DesError) -> CallStatus:
    """Translate a deliberate error."""
    code = code_of(error)
    text = _clean(str(error), MESSAGE_CHARACTERS_MAX)
    facts = {
        key: _clean(value, DETAIL_CHARACTERS_MAX) for key, value in list(error.details.items())[:DETAILS_MAX]
    }
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)
    ]
    if error.reason in FIELD_REASONS:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=facts.get("field", ""), description=text
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.reason == "QUOTA_EXCEEDED":
        quota = error_details_pb2.QuotaFailure.Violation(subject=facts.get("quota", ""), description=text)
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    wait_s = RETRY_AFTER_S.get(error.reason) if error.retry_after_s is None else error.retry_after_s
    return _status(code, text, details, wait_s=wait_s)


def internal_status(request_id: str) -> CallStatus:
    """Describe a defect of the server without telling what it is; the log has it under this id."""
    text = f"internal error, see the server's log for request {request_id}"
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id})
    return _status(grpc.StatusCode.INTERNAL, text, [info], wait_s=None)


def _status(
    code: grpc.StatusCode, text: str, details: list[message.Message], *, wait_s: float | None
) -> CallStatus:
    trailers: list[tuple[str, str | bytes]] = []
    if wait_s is not None:
        wait_ms = max(0, round(wait_s * 1000))
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(wait_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        trailers.append((PUSHBACK_KEY, str(wait_ms)))
    rich = status_pb2.Status(
        code=code.value[0], message=text, details=[_packed(detail) for detail in details]
    )
    trailers.append((STATUS_KEY, rich.SerializeToString()))
    return CallStatus(code, text, tuple(trailers))


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _clean(text: str, characters_max: int) -> str:
    """Return valid Unicode of a bounded length: messages may quote a stranger's bytes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
