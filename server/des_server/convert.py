"""Between wire messages and DES's own values: the only module that knows both."""

from typing import Final

from des_proto.v1 import (
    file_service_pb2,
    naming_service_pb2,
    shard_service_pb2,
    system_service_pb2,
    types_pb2,
)
from google.protobuf import duration_pb2, timestamp_pb2

from des import __version__
from des.assignment import AssignedName
from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import DesError, InvalidInputError
from des.files import Durability, FileInfo, FileSpec, FileState, window_of
from des.naming.name import day_start_ms
from des.node import Node, PutResult, ShardStatus
from des.storage.object_store import Capabilities
from des_server.status import item_status

MESSAGE_HEADROOM: Final = 64 << 10
"""What a message may be longer than its data: names, metadata, checksums, framing."""
PREFIX_LENGTH_MAX: Final = 32

FEATURES: Final = ("batch", "delete", "list", "watch", "resumable_uploads")
"""What of the protos' optional parts is served."""

_DURABILITY_TO_WIRE: Final = {
    Durability.LOCAL: types_pb2.DURABILITY_LOCAL,
    Durability.STORED: types_pb2.DURABILITY_STORED,
}
_DURABILITY_FROM_WIRE: Final[dict[int, Durability | None]] = {
    types_pb2.DURABILITY_UNSPECIFIED: None,
    types_pb2.DURABILITY_LOCAL: Durability.LOCAL,
    types_pb2.DURABILITY_STORED: Durability.STORED,
}
_FILE_STATE: Final = {
    FileState.OPEN: types_pb2.FILE_STATE_OPEN,
    FileState.STORED: types_pb2.FILE_STATE_STORED,
    FileState.DELETED: types_pb2.FILE_STATE_DELETED,
}
SHARD_STATE: Final = {
    "active": shard_service_pb2.SHARD_STATE_ACTIVE,
    "sealing": shard_service_pb2.SHARD_STATE_SEALING,
    "read_only": shard_service_pb2.SHARD_STATE_READ_ONLY,
    "recovering": shard_service_pb2.SHARD_STATE_RECOVERING,
    "unowned": shard_service_pb2.SHARD_STATE_UNOWNED,
}
"""States of a shard, as `ShardStatus` names them."""


def spec_from_wire(spec: file_service_pb2.FileSpec) -> FileSpec:
    """Read what a writer says about a file.

    Raises:
        InvalidInputError: a negative size, or a durability this server has never heard of.
    """
    size = spec.size_bytes if spec.HasField("size_bytes") else None
    if size is not None and size < 0:
        raise InvalidInputError(f"size_bytes is {size}, expected 0 or more", field="spec.size_bytes")
    if spec.durability not in _DURABILITY_FROM_WIRE:
        raise InvalidInputError(f"durability {spec.durability} is unknown", field="spec.durability")
    return FileSpec(
        name=spec.name,
        prefix=spec.prefix,
        size=size,
        content_type=spec.content_type,
        metadata=dict(spec.metadata) if spec.metadata else {},
        request_id=spec.request_id,
        durability=_DURABILITY_FROM_WIRE[spec.durability],
    )


def write_file(message: types_pb2.FileInfo, info: FileInfo, *, full: bool) -> None:
    """Write what is known about a file into `message`; `full` adds metadata and placement.

    In place, field by field: on the path of every call, and twice as fast as nested constructors.
    """
    message.name = info.name
    message.shard_id = info.shard
    message.size_bytes = info.size
    message.checksums.crc32c = info.crc32c
    message.content_type = info.content_type
    message.state = _FILE_STATE[info.state]
    _write_time(message.create_time, info.created_ms)
    if info.sealed_ms is not None:
        _write_time(message.seal_time, info.sealed_ms)
    if info.deleted_ms is not None:
        _write_time(message.delete_time, info.deleted_ms)
    if full:
        if info.metadata:
            message.metadata.update(info.metadata)
        if info.placement is not None:
            placement = message.placement
            placement.container_id = info.placement.container_id
            placement.data_offset = info.placement.data_offset
            placement.data_length = info.placement.data_length
            placement.external_key = info.placement.external_key or ""


def file_to_wire(info: FileInfo, *, full: bool) -> types_pb2.FileInfo:
    """Return what is known about a file; `full` adds metadata and placement."""
    message = types_pb2.FileInfo()
    write_file(message, info, full=full)
    return message


def listed_to_wire(info: FileInfo) -> types_pb2.FileInfo:
    """Return what is known about a file that was listed by name alone."""
    message = types_pb2.FileInfo(name=info.name, shard_id=info.shard, state=_FILE_STATE[info.state])
    _write_time(message.create_time, info.created_ms)
    if info.sealed_ms is not None:
        _write_time(message.seal_time, info.sealed_ms)
    if info.deleted_ms is not None:
        _write_time(message.delete_time, info.deleted_ms)
    return message


def undashed(day: str) -> str:
    """Return a day of the wire, "YYYY-MM-DD", as YYYYMMDD; an empty one stays so.

    Raises:
        InvalidInputError: it is no date.
    """
    if not day:
        return ""
    plain = day.replace("-", "")
    try:
        if _dashed(plain) != day or len(plain) != len("YYYYMMDD"):
            raise InvalidInputError(day)
        day_start_ms(plain)
    except InvalidInputError:
        raise InvalidInputError(f"day is {day[:32]!r}, expected a date as YYYY-MM-DD", field="day") from None
    return plain


def stat_result(found: FileInfo | DesError, *, full: bool) -> file_service_pb2.StatResult:
    """Return what is known about one file of many, or its error."""
    message = file_service_pb2.StatResult()
    if isinstance(found, DesError):
        message.status.CopyFrom(item_status(found))
    else:
        write_file(message.file, found, full=full)
    return message


def missing_result(name: str) -> file_service_pb2.StatResult:
    """Return the answer about a file that may be missing, and is."""
    return file_service_pb2.StatResult(file=types_pb2.FileInfo(name=name))


def is_full(view: int) -> bool:
    """Tell a full view from a basic one; unspecified means basic.

    Raises:
        InvalidInputError: an unknown view.
    """
    if view not in types_pb2.FileView.values():
        raise InvalidInputError(f"view {view} is unknown", field="view")
    return view == types_pb2.FILE_VIEW_FULL


def put_result_to_wire(result: PutResult) -> file_service_pb2.PutFileResponse:
    """Write the answer to a finished write."""
    message = file_service_pb2.PutFileResponse()
    write_file(message.file, result.file, full=False)
    message.already_existed = result.already_existed
    message.durability = _DURABILITY_TO_WIRE[result.durability]
    return message


def started_upload(upload_id: str, expires_ms: int) -> file_service_pb2.StartUploadResponse:
    """Write the answer to a begun upload."""
    return file_service_pb2.StartUploadResponse(upload_id=upload_id, expire_time=_timestamp(expires_ms))


def upload_status(status: int | FileInfo) -> file_service_pb2.GetUploadStatusResponse:
    """Write how far an upload is."""
    if isinstance(status, int):
        return file_service_pb2.GetUploadStatusResponse(persisted_size=status)
    return file_service_pb2.GetUploadStatusResponse(file=file_to_wire(status, full=True))


def durability_to_wire(durability: Durability | None) -> "types_pb2.Durability.ValueType":
    """Write what a writer waits for; None for the store's default."""
    if durability is None:
        return types_pb2.DURABILITY_UNSPECIFIED
    return _DURABILITY_TO_WIRE[durability]


def write_result(message: file_service_pb2.WriteResult, result: PutResult) -> None:
    """Write the answer to one file of a batch into `message`."""
    write_file(message.file, result.file, full=False)
    if result.already_existed:
        message.already_existed = True
    message.durability = _DURABILITY_TO_WIRE[result.durability]


def window_from_wire(wanted: types_pb2.ByteRange, size: int) -> tuple[int, int]:
    """Return the half-open window of a file of `size` bytes that a range means; see `window_of`."""
    return window_of(wanted.offset, wanted.limit, size)


def first_message(info: FileInfo, *, start: int, stop: int) -> file_service_pb2.GetFileResponse:
    """Write the head of a file on its way out; its chunk is still missing."""
    message = file_service_pb2.GetFileResponse()
    write_file(message.file, info, full=True)
    window = message.content_range
    window.start = start
    window.end = stop
    window.total_size = info.size
    return message


def names_to_wire(names: list[AssignedName]) -> naming_service_pb2.AssignNameResponse:
    """Write assigned names."""
    return naming_service_pb2.AssignNameResponse(
        names=[
            naming_service_pb2.AssignedName(name=each.name, shard_id=each.shard, day=_dashed(each.day))
            for each in names
        ]
    )


def shard_to_wire(status: ShardStatus) -> shard_service_pb2.Shard:
    """Write what is known about one shard."""
    message = shard_service_pb2.Shard(
        shard_id=status.shard,
        state=SHARD_STATE.get(status.state, shard_service_pb2.SHARD_STATE_UNSPECIFIED),
        owner_node=status.owner,
        owner_address=status.owner_address,
        epoch=status.epoch,
        open_files=status.open_files,
        open_bytes=status.open_bytes,
        stored_files=status.stored_files,
        stored_bytes=status.stored_bytes,
        containers=status.containers,
        last_error=status.last_error,
    )
    if status.oldest_open_age_s is not None:
        message.oldest_open_age.CopyFrom(_duration(status.oldest_open_age_s))
    if status.last_seal_ms is not None:
        message.last_seal_time.CopyFrom(_timestamp(status.last_seal_ms))
    if status.last_heartbeat_ms is not None:
        message.last_heartbeat_time.CopyFrom(_timestamp(status.last_heartbeat_ms))
    return message


def container_to_wire(row: ContainerRow) -> shard_service_pb2.SealedContainer:
    """Write what a seal made."""
    return shard_service_pb2.SealedContainer(
        container_id=row.container_id,
        day=_dashed(row.day),
        shard_id=row.run.first,
        shard_span=row.run.span,
        key=row.key,
        file_count=row.geometry.file_count,
        size_bytes=row.geometry.size,
    )


def server_info_to_wire(node: Node, capabilities: Capabilities) -> system_service_pb2.GetServerInfoResponse:
    """Write what a client should know before its first call."""
    settings = node.settings
    stored = capabilities.survives_node or settings.stored.any_store
    return system_service_pb2.GetServerInfoResponse(
        server_version=__version__,
        api_versions=["des.v1"],
        features=[*FEATURES, *(["stored_ack"] if stored else [])],
        limits=limits_to_wire(settings),
        default_durability=_DURABILITY_TO_WIRE[Durability(settings.durability)],
        node_id=node.node_id,
        shard_bits=settings.shard_bits,
        store_id=node.store_id,
        object_store=system_service_pb2.ObjectStoreInfo(
            kind=capabilities.kind,
            conditional_create=capabilities.conditional_create,
            checksums=capabilities.checksums,
            server_side_copy=capabilities.server_side_copy,
            survives_node=capabilities.survives_node,
            conditional_read=capabilities.conditional_read,
            conditional_delete=capabilities.conditional_delete,
            ranges=capabilities.ranges,
            advice=capabilities.advice,
        ),
        start_time=_timestamp(node.started_ms),
    )


def limits_to_wire(settings: Settings) -> types_pb2.Limits:
    """Write the limits that a client sizes its messages from. What is not served stays 0."""
    limits = settings.limits
    return types_pb2.Limits(
        max_file_size_bytes=limits.file_bytes,
        max_message_bytes=limits.chunk_bytes + MESSAGE_HEADROOM,
        max_chunk_bytes=limits.chunk_bytes,
        preferred_chunk_bytes=min(limits.preferred_chunk_bytes, limits.chunk_bytes),
        max_batch_items=limits.batch_items,
        max_batch_message_bytes=limits.chunk_bytes + MESSAGE_HEADROOM,
        max_names_per_assign=limits.names_per_assign,
        max_page_size=limits.page_size,
        max_metadata_bytes=limits.metadata_bytes,
        max_metadata_entries=limits.metadata_entries,
        max_prefix_length=PREFIX_LENGTH_MAX,
        # The node remembers a request for as long as the log keeps its record.
        upload_ttl=_duration(limits.upload_ttl_s),
        request_id_ttl=_duration(settings.log.reclaim_delay_s),
    )


def _timestamp(ms: int) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    _write_time(message, ms)
    return message


def _write_time(message: timestamp_pb2.Timestamp, ms: int) -> None:
    message.seconds = ms // 1000
    message.nanos = ms % 1000 * 1_000_000


def _duration(seconds: float) -> duration_pb2.Duration:
    whole, rest = divmod(round(seconds * 1000), 1000)
    return duration_pb2.Duration(seconds=whole, nanos=rest * 1_000_000)


def _dashed(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
