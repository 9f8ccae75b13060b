"""From wire messages back to DES's own values: what another node of the cluster answered.

The inverse of `convert` and `status`; a test holds them together.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import grpc
from des_proto.v1 import file_service_pb2, shard_service_pb2, types_pb2
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError

from des.cluster import NotShardOwnerError
from des.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptError,
    CredentialsError,
    DeadlineError,
    DeniedError,
    DesError,
    DisabledError,
    ExhaustedError,
    InvalidInputError,
    NotFoundError,
    OutOfRangeError,
    PreconditionError,
    UnavailableError,
)
from des.files import Durability, FileInfo, FileSpec, FileState, Placement
from des.node import PutResult, ShardStatus
from des.retrieval.tombstones import FileDeletedError
from des_server.convert import SHARD_STATE, durability_to_wire
from des_server.status import STATUS_KEY

_FILE_STATE: Final = {
    types_pb2.FILE_STATE_OPEN: FileState.OPEN,
    types_pb2.FILE_STATE_STORED: FileState.STORED,
    types_pb2.FILE_STATE_DELETED: FileState.DELETED,
}
_SHARD_STATE: Final = {wire: state for state, wire in SHARD_STATE.items()}
_KINDS: Final[dict[int, type[DesError]]] = {
    code.value[0]: kind
    for code, kind in (
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInputError),
        (grpc.StatusCode.OUT_OF_RANGE, OutOfRangeError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExistsError),
        (grpc.StatusCode.ABORTED, ConflictError),
        (grpc.StatusCode.FAILED_PRECONDITION, PreconditionError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ExhaustedError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.DATA_LOSS, CorruptError),
        (grpc.StatusCode.UNIMPLEMENTED, DisabledError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineError),
        (grpc.StatusCode.UNAUTHENTICATED, CredentialsError),
        (grpc.StatusCode.PERMISSION_DENIED, DeniedError),
    )
}
_LEAVES: Final[dict[str, type[DesError]]] = {
    "NOT_SHARD_OWNER": NotShardOwnerError,
    "FILE_DELETED": FileDeletedError,
}
"""Errors that somebody here tells apart by their class."""


def spec_to_wire(spec: FileSpec) -> file_service_pb2.FileSpec:
    """Write what a writer said about a file."""
    return file_service_pb2.FileSpec(
        name=spec.name,
        prefix=spec.prefix,
        size_bytes=spec.size,
        content_type=spec.content_type,
        metadata=dict(spec.metadata),
        request_id=spec.request_id,
        durability=durability_to_wire(spec.durability),
    )


def file_from_wire(message: types_pb2.FileInfo) -> FileInfo:
    """Read what is known about a file."""
    placement = None
    if message.HasField("placement"):
        wire = message.placement
        placement = Placement(
            wire.container_id, wire.data_offset, wire.data_length, wire.external_key or None
        )
    return FileInfo(
        name=message.name,
        day=message.name[-26:-18],
        shard=message.shard_id,
        size=message.size_bytes,
        crc32c=message.checksums.crc32c,
        content_type=message.content_type,
        metadata=dict(message.metadata),
        state=_FILE_STATE[message.state],
        created_ms=_ms(message.create_time),
        sealed_ms=_ms(message.seal_time) if message.HasField("seal_time") else None,
        placement=placement,
        deleted_ms=_ms(message.delete_time) if message.HasField("delete_time") else None,
    )


def put_result_from_wire(
    message: "file_service_pb2.WriteResult | file_service_pb2.PutFileResponse",
) -> PutResult:
    """Read the answer to a write."""
    stored = message.durability == types_pb2.DURABILITY_STORED
    return PutResult(
        file_from_wire(message.file),
        already_existed=message.already_existed,
        durability=Durability.STORED if stored else Durability.LOCAL,
    )


def shard_from_wire(message: shard_service_pb2.Shard) -> ShardStatus:
    """Read what is known about a shard."""
    age, sealed = message.oldest_open_age, message.last_seal_time
    return ShardStatus(
        shard=message.shard_id,
        state=_SHARD_STATE.get(message.state, ""),
        owner=message.owner_node,
        epoch=message.epoch,
        open_files=message.open_files,
        open_bytes=message.open_bytes,
        stored_files=message.stored_files,
        stored_bytes=message.stored_bytes,
        containers=message.containers,
        oldest_open_age_s=age.seconds + age.nanos / 1e9 if message.HasField("oldest_open_age") else None,
        last_seal_ms=_ms(sealed) if message.HasField("last_seal_time") else None,
        last_heartbeat_ms=_ms(message.last_heartbeat_time),
        last_error=message.last_error,
        owner_address=message.owner_address,
    )


def error_from_status(status: status_pb2.Status) -> DesError:
    """Return the error that `item_status` wrote."""
    reason, facts, wait_s = "", {}, None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            reason, facts = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            wait_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    kind = _kind(status.code, reason)
    error = kind(status.message, retry_after_s=wait_s)
    error.details = facts
    return error


def error_from_call(error: AioRpcError) -> DesError:
    """Return the error that ended a call to another node."""
    rich = next((value for key, value in error.trailing_metadata() or () if key == STATUS_KEY), None)
    if isinstance(rich, bytes):
        return error_from_status(status_pb2.Status.FromString(rich))
    kind = _KINDS.get(error.code().value[0], UnavailableError)
    return kind(f"another node answered {error.code().name}: {error.details()}")


@lru_cache(maxsize=256)
def _kind(code: int, reason: str) -> type[DesError]:
    if reason in _LEAVES:
        return _LEAVES[reason]
    kind = _KINDS.get(code, DesError)
    if not reason or reason == kind.reason:
        return kind
    told: dict[str, Any] = {"reason": reason, "__doc__": f"{kind.__name__} that another node told."}
    return type(f"Told{kind.__name__}", (kind,), told)


def deleted_ms_of(error: FileDeletedError) -> int:
    """Return when a file was deleted, UTC milliseconds since 1970, as the error says it."""
    told = error.details.get("delete_time", "")
    return round(datetime.fromisoformat(told).timestamp() * 1000) if told else 0


def _ms(time: timestamp_pb2.Timestamp) -> int:
    return int(time.seconds) * 1000 + int(time.nanos) // 1_000_000
