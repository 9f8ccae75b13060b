"""What the client gives back: plain values, frozen, without a trace of the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class Durability(StrEnum):
    """What a successful write promises."""

    UNKNOWN = "unknown"
    """The server said nothing this client understands. Only in answers."""
    LOCAL = "local"
    """Synced on the disk of the node that owns the file's shard."""
    STORED = "stored"
    """Held by the object store and recorded in the catalog."""


class FileState(StrEnum):
    """Where a file is in its life."""

    UNKNOWN = "unknown"
    """A state that this client does not know."""
    OPEN = "open"
    """In the ingest log; readable, its container is not sealed yet."""
    STORED = "stored"
    """In a sealed container."""
    DELETED = "deleted"
    """Tombstoned."""


class ShardState(StrEnum):
    """What a shard's owner is doing with it."""

    UNKNOWN = "unknown"
    """A state that this client does not know."""
    ACTIVE = "active"
    SEALING = "sealing"
    READ_ONLY = "read_only"
    RECOVERING = "recovering"
    UNOWNED = "unowned"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a stored file's bytes lie; for operators, not part of the stable contract."""

    container_id: str
    """UUIDv7 of the container; empty while the file is open."""
    data_offset: int
    """Bytes from the start of the container."""
    data_length: int
    """Stored length in bytes."""
    external_key: str
    """Object key of a file outside its container; empty for all others."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known about one file."""

    name: str
    shard_id: int
    size_bytes: int
    """Length of the content, uncompressed."""
    crc32c: int | None
    """CRC32C (Castagnoli) of the whole content; None when the server did not say."""
    sha256: bytes | None
    """32 bytes; None when unknown."""
    content_type: str
    """As given by the writer; empty when not given."""
    state: FileState
    create_time: datetime | None
    """UTC. The time the name carries, to the millisecond."""
    seal_time: datetime | None
    """UTC. When the file's container was recorded; None while it is open."""
    delete_time: datetime | None
    """UTC. None while the file is not deleted."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The writer's own entries."""
    placement: Placement | None = None
    """None unless the server disclosed it."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """What a write achieved."""

    file: FileInfo
    already_existed: bool
    """The same content was there under this name (or request id) before this call's last attempt."""
    durability: Durability
    """What was reached when the server answered."""


@dataclass(frozen=True, slots=True)
class AssignedName:
    """A name reserved for one file."""

    name: str
    shard_id: int
    day: str
    """UTC day in the name, YYYY-MM-DD."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard, as its owner sees it."""

    shard_id: int
    state: ShardState
    owner_node: str
    owner_address: str
    open_files: int
    open_bytes: int
    stored_files: int
    """Files of a container that covers several shards may be counted at its first shard."""
    stored_bytes: int
    containers: int
    oldest_open_age: timedelta | None
    """Age of the oldest file not sealed yet; None when nothing is open."""
    last_seal_time: datetime | None
    last_heartbeat_time: datetime | None
    last_error: str
    """Empty when the last operation succeeded."""
    epoch: int
    """Fencing epoch of the owner's lock."""


@dataclass(frozen=True, slots=True)
class SealedContainer:
    """A container that a seal made."""

    container_id: str
    """UUIDv7."""
    day: str
    """UTC day of its files, YYYY-MM-DD."""
    shard_id: int
    """First shard it covers."""
    shard_span: int
    """How many shards it covers; a power of two."""
    key: str
    """Object key."""
    file_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SealResult:
    """What `seal_shard` did."""

    shard: ShardInfo
    containers: tuple[SealedContainer, ...]
    """Empty when nothing was open."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server accepts. Zero where it does not say."""

    max_file_size_bytes: int
    max_message_bytes: int
    """Counts the serialized message."""
    max_chunk_bytes: int
    preferred_chunk_bytes: int
    max_batch_items: int
    max_batch_message_bytes: int
    max_names_per_assign: int
    max_page_size: int
    max_metadata_bytes: int
    max_metadata_entries: int
    max_prefix_length: int
    upload_ttl: timedelta | None
    request_id_ttl: timedelta | None
    """How long at least a request id is remembered."""


@dataclass(frozen=True, slots=True)
class ObjectStoreInfo:
    """What the object store behind the server was found to honour."""

    kind: str
    """local, s3, gcs, azure, memory."""
    conditional_create: bool
    checksums: bool
    server_side_copy: bool
    survives_node: bool
    """Losing the node's disk does not lose the store."""
    conditional_read: bool = False
    """Reads that name another etag are refused; False from servers that do not say."""
    conditional_delete: bool = False
    ranges: bool = False
    advice: tuple[str, ...] = ()
    """What the store lacks, and what can be done: one sentence each."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who answers, and what it can do."""

    server_version: str
    api_versions: tuple[str, ...]
    features: frozenset[str]
    limits: Limits
    default_durability: Durability
    node_id: int
    shard_bits: int
    store_id: str
    """UUID that all nodes of one store share."""
    object_store: ObjectStoreInfo
    start_time: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is.

    An upload that has to start again reports a smaller `done_bytes` than before.
    """

    done_bytes: int
    total_bytes: int | None
    """None while unknown."""
