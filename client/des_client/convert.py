"""Wire messages to values and back: the only module that knows both."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from des_proto.v1 import (
    file_service_pb2,
    naming_service_pb2,
    shard_service_pb2,
    system_service_pb2,
    types_pb2,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from des_client.errors import Internal, InvalidArgument, from_status
from des_client.items import FileOutcome, FilePage, ShardUpdate
from des_client.types import (
    AssignedName,
    Durability,
    FileInfo,
    FileState,
    Limits,
    ObjectStoreInfo,
    Placement,
    PutResult,
    SealedContainer,
    SealResult,
    ServerInfo,
    ShardInfo,
    ShardState,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_DURABILITY: Final = {
    types_pb2.DURABILITY_LOCAL: Durability.LOCAL,
    types_pb2.DURABILITY_STORED: Durability.STORED,
}
_WIRE_DURABILITY: Final = {
    None: types_pb2.DURABILITY_UNSPECIFIED,
    Durability.LOCAL: types_pb2.DURABILITY_LOCAL,
    Durability.STORED: types_pb2.DURABILITY_STORED,
}
_FILE_STATE: Final = {
    types_pb2.FILE_STATE_OPEN: FileState.OPEN,
    types_pb2.FILE_STATE_STORED: FileState.STORED,
    types_pb2.FILE_STATE_DELETED: FileState.DELETED,
}
_SHARD_STATE: Final = {
    shard_service_pb2.SHARD_STATE_ACTIVE: ShardState.ACTIVE,
    shard_service_pb2.SHARD_STATE_SEALING: ShardState.SEALING,
    shard_service_pb2.SHARD_STATE_READ_ONLY: ShardState.READ_ONLY,
    shard_service_pb2.SHARD_STATE_RECOVERING: ShardState.RECOVERING,
    shard_service_pb2.SHARD_STATE_UNOWNED: ShardState.UNOWNED,
}


def _time(message: Timestamp) -> datetime:
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def _duration(message: Duration) -> timedelta:
    return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def file_info(message: types_pb2.FileInfo) -> FileInfo:
    """Convert what the server says about a file."""
    # Once for every file of a batch: in order, without keywords, asking only for what may be there.
    checksums, has = message.checksums, message.HasField
    return FileInfo(
        message.name,
        message.shard_id,
        message.size_bytes,
        checksums.crc32c if checksums.HasField("crc32c") else None,
        checksums.sha256 or None,
        message.content_type,
        _FILE_STATE.get(message.state, FileState.UNKNOWN),
        _time(message.create_time) if has("create_time") else None,
        _time(message.seal_time) if has("seal_time") else None,
        _time(message.delete_time) if has("delete_time") else None,
        dict(message.metadata) if len(message.metadata) else {},
        _placement(message.placement) if has("placement") else None,
    )


def _placement(message: types_pb2.Placement) -> Placement:
    return Placement(
        container_id=message.container_id,
        data_offset=message.data_offset,
        data_length=message.data_length,
        external_key=message.external_key,
    )


def file_spec(
    *,
    name: str | None,
    prefix: str,
    content_type: str,
    metadata: Mapping[str, str] | None,
    durability: Durability | None,
    request_id: str | None,
) -> file_service_pb2.FileSpec:
    """Build the part of a write that comes before its bytes; the size is set by the upload.

    Raises:
        InvalidArgument: text that is not valid Unicode, a prefix beside a name, or a durability that
            nobody can ask for.
    """
    if name is not None:
        check_name(name, prefix)
    try:
        return file_service_pb2.FileSpec(
            name=name or "",
            prefix=prefix,
            content_type=content_type,
            metadata=metadata or {},
            durability=wire_durability(durability),
            request_id=request_id or "",
        )
    except UnicodeEncodeError as failed:
        raise not_unicode(failed) from None


def check_name(name: str, prefix: str) -> None:
    """Refuse an empty name, and one beside a prefix."""
    if not name:
        raise InvalidArgument("name is empty; leave it out to have one assigned", reason="INVALID_NAME")
    if prefix:
        raise InvalidArgument(f"prefix {prefix!r} is only for assigned names, but name is {name!r}")


def wire_durability(durability: Durability | None) -> types_pb2.Durability.ValueType:
    """Convert what a writer asks for; None is the server's default.

    Raises:
        InvalidArgument: nobody can ask for that.
    """
    if durability not in _WIRE_DURABILITY:
        raise InvalidArgument(f"durability is {durability!r}, expected LOCAL, STORED or None")
    return _WIRE_DURABILITY[durability]


def not_unicode(failed: UnicodeEncodeError) -> InvalidArgument:
    """Name the text that protobuf refused."""
    return InvalidArgument(f"{failed.object!r} is not valid Unicode: {failed.reason}", reason="INVALID_FIELD")


def put_result(message: file_service_pb2.PutFileResponse) -> PutResult:
    """Convert the answer to a finished write.

    Raises:
        Internal: the server answered without a file.
    """
    if not message.HasField("file"):
        raise Internal("the server answered a finished write without a file")
    return PutResult(
        file=file_info(message.file),
        already_existed=message.already_existed,
        durability=_DURABILITY.get(message.durability, Durability.UNKNOWN),
    )


def write_result(message: file_service_pb2.WriteResult) -> PutResult:
    """Convert the acknowledgement of one file of a batch.

    Raises:
        Internal: the server answered without a file.
    """
    if not message.HasField("file"):
        raise Internal("the server acknowledged a write without a file")
    return PutResult(
        file_info(message.file),
        message.already_existed,
        _DURABILITY.get(message.durability, Durability.UNKNOWN),
    )


def stat_result(index: int, name: str, message: file_service_pb2.StatResult) -> FileOutcome:
    """Convert the answer about one name of many."""
    if message.WhichOneof("result") == "status" and message.status.code:
        return FileOutcome(index, name, None, from_status(message.status))
    return FileOutcome(index, name, file_info(message.file) if message.HasField("file") else None, None)


def file_page(message: file_service_pb2.ListFilesResponse) -> FilePage:
    """Convert a page of a listing."""
    return FilePage(tuple(map(file_info, message.files)), message.next_page_token)


def shard_update(message: shard_service_pb2.WatchShardStatusResponse) -> ShardUpdate:
    """Convert one message of a watch."""
    return ShardUpdate(tuple(map(shard_info, message.shards)), message.revision, message.snapshot)


def wire_time(moment: datetime) -> Timestamp:
    """Convert a moment, which must say its time zone.

    Raises:
        InvalidArgument: it does not.
    """
    if moment.tzinfo is None:
        raise InvalidArgument(f"{moment!r} has no time zone, expected one (datetime.UTC, for example)")
    delta = moment - _EPOCH
    return Timestamp(seconds=delta.days * 86_400 + delta.seconds, nanos=delta.microseconds * 1000)


def assigned_names(message: naming_service_pb2.AssignNameResponse) -> list[AssignedName]:
    """Convert reserved names."""
    return [AssignedName(name=one.name, shard_id=one.shard_id, day=one.day) for one in message.names]


def shard_info(message: shard_service_pb2.Shard) -> ShardInfo:
    """Convert the state of one shard."""
    has = message.HasField
    return ShardInfo(
        shard_id=message.shard_id,
        state=_SHARD_STATE.get(message.state, ShardState.UNKNOWN),
        owner_node=message.owner_node,
        owner_address=message.owner_address,
        open_files=message.open_files,
        open_bytes=message.open_bytes,
        stored_files=message.stored_files,
        stored_bytes=message.stored_bytes,
        containers=message.containers,
        oldest_open_age=_duration(message.oldest_open_age) if has("oldest_open_age") else None,
        last_seal_time=_time(message.last_seal_time) if has("last_seal_time") else None,
        last_heartbeat_time=_time(message.last_heartbeat_time) if has("last_heartbeat_time") else None,
        last_error=message.last_error,
        epoch=message.epoch,
    )


def seal_result(message: shard_service_pb2.SealShardResponse) -> SealResult:
    """Convert what a seal did."""
    return SealResult(
        shard=shard_info(message.shard),
        containers=tuple(
            SealedContainer(
                container_id=one.container_id,
                day=one.day,
                shard_id=one.shard_id,
                shard_span=one.shard_span,
                key=one.key,
                file_count=one.file_count,
                size_bytes=one.size_bytes,
            )
            for one in message.containers
        ),
    )


def server_info(message: system_service_pb2.GetServerInfoResponse) -> ServerInfo:
    """Convert what a server says about itself."""
    store = message.object_store
    return ServerInfo(
        server_version=message.server_version,
        api_versions=tuple(message.api_versions),
        features=frozenset(message.features),
        limits=_limits(message.limits),
        default_durability=_DURABILITY.get(message.default_durability, Durability.UNKNOWN),
        node_id=message.node_id,
        shard_bits=message.shard_bits,
        store_id=message.store_id,
        object_store=ObjectStoreInfo(
            kind=store.kind,
            conditional_create=store.conditional_create,
            checksums=store.checksums,
            server_side_copy=store.server_side_copy,
            survives_node=store.survives_node,
            conditional_read=store.conditional_read,
            conditional_delete=store.conditional_delete,
            ranges=store.ranges,
            advice=tuple(store.advice),
        ),
        start_time=_time(message.start_time) if message.HasField("start_time") else None,
    )


def _limits(message: types_pb2.Limits) -> Limits:
    has = message.HasField
    return Limits(
        max_file_size_bytes=message.max_file_size_bytes,
        max_message_bytes=message.max_message_bytes,
        max_chunk_bytes=message.max_chunk_bytes,
        preferred_chunk_bytes=message.preferred_chunk_bytes,
        max_batch_items=message.max_batch_items,
        max_batch_message_bytes=message.max_batch_message_bytes,
        max_names_per_assign=message.max_names_per_assign,
        max_page_size=message.max_page_size,
        max_metadata_bytes=message.max_metadata_bytes,
        max_metadata_entries=message.max_metadata_entries,
        max_prefix_length=message.max_prefix_length,
        upload_ttl=_duration(message.upload_ttl) if has("upload_ttl") else None,
        request_id_ttl=_duration(message.request_id_ttl) if has("request_id_ttl") else None,
    )
