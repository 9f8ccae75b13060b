# ruff: noqa: N818  the names say what happened, like FileNotFoundError's siblings do; they are public API
"""Every error the client raises on purpose, and how a gRPC status becomes one.

Catch `DesClientError` for all of them, a leaf for one kind, or the builtin it fits: `FileMissing` is a
`FileNotFoundError`, `DeadlineExceeded` a `TimeoutError`, `Unavailable` a `ConnectionError`.
"""

import errno
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN: Final = "des.storage"
"""`google.rpc.ErrorInfo.domain` of every error a DES server makes itself."""

_DETAILS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEYS: Final = ("des-request-id", "x-request-id")

_TRANSPORT_TEXTS: Final = (
    "RST_STREAM",
    "Stream removed",
    "Socket closed",
    "Connection reset",
    "Broken pipe",
    "GOAWAY",
    # A write that grpc.aio could not make because the call had ended.
    "Internal error from Core",
)
"""Words of gRPC's C core about a lost connection; some versions file it under INTERNAL or UNKNOWN
instead of UNAVAILABLE. Looked for only when no server spoke (no ErrorInfo)."""


_CODE_NAMES: Final[Mapping[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


class StatusCode(StrEnum):
    """The gRPC status codes, by name."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class DesClientError(Exception):
    """Base of every error the client raises on purpose."""

    default_code: ClassVar[StatusCode] = StatusCode.UNKNOWN
    default_errno: ClassVar[int | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code: StatusCode = code or self.default_code
        """Status of the call, or the one that fits when the client itself found the error."""
        self.reason: str = reason
        """Value of `des.v1.ErrorReason` without its prefix; empty when no DES server spoke."""
        self.metadata: Mapping[str, str] = metadata or {}
        """Facts of the message, machine-readable; which keys, says the reason (errors.proto)."""
        self.retry_after_s: float | None = retry_after_s
        """When the server wants to be asked again, in seconds; None when it did not say."""
        self.request_id: str | None = request_id
        """What finds this call in the server's log; None when unknown."""
        self.attempts: int = 1
        """How many times the call was made before this error was final."""
        if self.default_errno is not None:
            # Every leaf with a number is an OSError, too.
            setattr(self, "errno", self.default_errno)  # noqa: B010  declared by OSError, not here

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later without a change of input."""
        return False


class InvalidArgument(DesClientError, ValueError):
    """An argument breaks a documented rule."""

    default_code = StatusCode.INVALID_ARGUMENT


class RangeNotSatisfiable(DesClientError, ValueError):
    """The range starts outside the file."""

    default_code = StatusCode.OUT_OF_RANGE


class NotFound(DesClientError, LookupError):
    """The named thing does not exist."""

    default_code = StatusCode.NOT_FOUND


class FileMissing(NotFound, FileNotFoundError):
    """No such file, or it was deleted (then `reason` is FILE_DELETED)."""

    default_errno = errno.ENOENT


class NameConflict(DesClientError, FileExistsError):
    """The name is taken by other content. Names are write-once."""

    default_code = StatusCode.ALREADY_EXISTS
    default_errno = errno.EEXIST


class RequestIdConflict(DesClientError, ValueError):
    """The request id was used before, for other content."""

    default_code = StatusCode.ALREADY_EXISTS


class FailedPrecondition(DesClientError):
    """The store is in a state in which the call makes no sense until somebody changes it."""

    default_code = StatusCode.FAILED_PRECONDITION


class Aborted(DesClientError):
    """Another writer got in between."""

    default_code = StatusCode.ABORTED

    @property
    def retryable(self) -> bool:
        """Whether it was an attempt of this upload that the server still holds on to."""
        return self.reason == "CONCURRENT_UPLOAD"


class ChecksumMismatch(DesClientError):
    """Bytes changed on their way, up or down. Nothing of them was kept or handed out."""

    default_code = StatusCode.DATA_LOSS


class DataLoss(DesClientError):
    """The server cannot vouch for the stored bytes, or they are not the file asked for."""

    default_code = StatusCode.DATA_LOSS


class UploadInterrupted(DesClientError, ConnectionError):
    """An upload failed half-way and its source cannot be read again from the start."""

    default_code = StatusCode.UNAVAILABLE


class ResourceExhausted(DesClientError):
    """Something is full. Tried again only if the server said when."""

    default_code = StatusCode.RESOURCE_EXHAUSTED

    @property
    def retryable(self) -> bool:
        """True when the server said when to come back."""
        return self.retry_after_s is not None


class QuotaExceeded(ResourceExhausted):
    """A quota of the caller is spent."""


class DiskFull(ResourceExhausted, OSError):
    """The node's disk takes no more writes; reads go on."""

    default_errno = errno.ENOSPC


class Unavailable(DesClientError, ConnectionError):
    """No answer, a broken connection, or a server that cannot answer now."""

    default_code = StatusCode.UNAVAILABLE

    @property
    def retryable(self) -> bool:
        """Always: nothing is known to be wrong with the call."""
        return True


class DeadlineExceeded(DesClientError, TimeoutError):
    """The time allowed passed before the answer came; the outcome is unknown."""

    default_code = StatusCode.DEADLINE_EXCEEDED
    default_errno = errno.ETIMEDOUT

    @property
    def retryable(self) -> bool:
        """True: an attempt's time may be over while the call's is not."""
        return True


class FeatureDisabled(DesClientError, NotImplementedError):
    """This server does not serve the call or feature."""

    default_code = StatusCode.UNIMPLEMENTED


class Unauthenticated(DesClientError, PermissionError):
    """No credentials, or wrong ones."""

    default_code = StatusCode.UNAUTHENTICATED
    default_errno = errno.EACCES


class PermissionDenied(DesClientError, PermissionError):
    """The credentials do not allow this."""

    default_code = StatusCode.PERMISSION_DENIED
    default_errno = errno.EPERM


class Cancelled(DesClientError):
    """The call was cancelled in this process, and not by `close()`."""

    default_code = StatusCode.CANCELLED


class Internal(DesClientError):
    """A defect: the server's own, or an answer that breaks the protocol."""

    default_code = StatusCode.INTERNAL


class ClientClosed(DesClientError, RuntimeError):
    """The client was closed."""

    default_code = StatusCode.CANCELLED


class WrongLoop(DesClientError, RuntimeError):
    """An `AsyncDesClient` was used from another event loop than the one it first ran in."""

    default_code = StatusCode.FAILED_PRECONDITION


BY_CODE: Final[Mapping[StatusCode, type[DesClientError]]] = {
    # Not by us, that is told apart before: a stopping server cancels the calls that outlive its grace.
    StatusCode.CANCELLED: Unavailable,
    StatusCode.UNKNOWN: Internal,
    StatusCode.INVALID_ARGUMENT: InvalidArgument,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.ALREADY_EXISTS: NameConflict,
    StatusCode.PERMISSION_DENIED: PermissionDenied,
    StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    StatusCode.ABORTED: Aborted,
    StatusCode.OUT_OF_RANGE: RangeNotSatisfiable,
    StatusCode.UNIMPLEMENTED: FeatureDisabled,
    StatusCode.INTERNAL: Internal,
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.DATA_LOSS: DataLoss,
    StatusCode.UNAUTHENTICATED: Unauthenticated,
}
"""The kind of every code, where the reason says nothing closer."""

BY_REASON: Final[Mapping[str, type[DesClientError]]] = {
    "FILE_NOT_FOUND": FileMissing,
    "FILE_DELETED": FileMissing,
    "REQUEST_ID_CONFLICT": RequestIdConflict,
    "UPLOAD_CHECKSUM_MISMATCH": ChecksumMismatch,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "DISK_FULL": DiskFull,
}
"""Reasons that have a leaf of their own."""


class FailedCall(Protocol):
    """What sync and asyncio gRPC errors have in common."""

    def code(self) -> grpc.StatusCode:
        """Status of the call."""
        ...

    def details(self) -> str | None:
        """Message of the status."""
        ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | Any:
        """Trailers, `grpc-status-details-bin` among them."""
        ...


def from_call(failed: FailedCall, *, request_id: str | None = None) -> DesClientError:
    """Turn a failed gRPC call into the client's error.

    Args:
        failed: the gRPC error.
        request_id: id that this client gave the request, used when the server names none.
    """
    # Not dict(...): grpc.aio's trailers look like a mapping, and in older versions are none.
    trailers = {key: value for key, value in failed.trailing_metadata() or ()}  # noqa: C416  see above
    details = trailers.get(_DETAILS_KEY)
    if isinstance(details, bytes):
        try:
            status = status_pb2.Status.FromString(details)
        except DecodeError:
            status = status_pb2.Status()
    else:
        status = status_pb2.Status()
    for key in _REQUEST_ID_KEYS:
        if isinstance(echoed := trailers.get(key), str):
            request_id = echoed
            break
    return _build(StatusCode(failed.code().name), failed.details() or "", status, request_id)


def from_status(status: status_pb2.Status, *, request_id: str | None = None) -> DesClientError:
    """Turn the status of one item of a batch into the client's error."""
    code = StatusCode(_CODE_NAMES.get(status.code, "UNKNOWN"))
    return _build(code, status.message, status, request_id)


def _build(
    code: StatusCode, message: str, status: status_pb2.Status, request_id: str | None
) -> DesClientError:
    reason, metadata, retry_after_s = "", {}, None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            if info.domain == DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
    kind = BY_REASON.get(reason) or BY_CODE.get(code, Internal)
    if not reason and kind is Internal and any(text in message for text in _TRANSPORT_TEXTS):
        kind = Unavailable
    return kind(
        message or code.value,
        code=code,
        reason=reason,
        metadata=metadata,
        retry_after_s=retry_after_s,
        request_id=metadata.get("request_id") or request_id,
    )
