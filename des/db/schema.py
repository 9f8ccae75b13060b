"""The tables of the catalog. A change here needs a revision in `migrations/versions`.

Times are UTC milliseconds since 1970 by the database's clock; `name_ms_*` come from names. Text
stands for UUIDs, so that one model serves every database.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    literal_column,
    text,
)

from des.db.catalog import ContainerState
from des.db.rows import LogSegmentState

HASH_BITS: Final = 32
"""`hash_first` counts in `2**HASH_BITS` parts of the hash space, whatever the row's `shard_bits` are."""

OPEN: Final = "open"
"""State of a row that stands for an `OpenContainer`; all others stand for a `ContainerRow`."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

stores = Table(
    "des_store",
    metadata,
    Column("singleton", SmallInteger, primary_key=True, autoincrement=False),
    Column("store_id", String(36), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # None until a node has said it.
    Column("shard_bits", SmallInteger),
    Column("shard_generation", BigInteger, nullable=False, server_default="0"),
    Column("next_shard_bits", SmallInteger),
    Column("next_shard_bits_at", BigInteger),
    CheckConstraint("singleton = 1", name="one_row"),
)

nodes = Table(
    "des_nodes",
    metadata,
    Column("node", String(36), primary_key=True),
    Column("holder", String(36), nullable=False),
    Column("boot_epoch", BigInteger, nullable=False),
    Column("address", String(255), nullable=False),
    Column("version", String(64), nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("local_files", Boolean, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    # Said by the start (its holder) that bounds the times in names; another one has said nothing yet.
    Column("names_bound_by", String(36), nullable=False, server_default=""),
    Column("named_until", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("capacity > 0", name="capacity"),
)

node_ids = Table(
    "des_node_ids",
    metadata,
    # A row is never deleted: its floor must outlive every node that gave names with the id.
    Column("node_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("node", String(36), nullable=False, unique=True),
    Column("floor_ms", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    CheckConstraint("node_id BETWEEN 0 AND 255", name="node_id"),
)

estates = Table(
    "des_estates",
    metadata,
    Column("shard_id", BigInteger, primary_key=True, autoincrement=False),
    Column("node", String(36), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("local_files", Boolean, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    Column("settled_seq", BigInteger, nullable=False),
    Column("owed", Boolean, nullable=False),
    Column("open_files", BigInteger, nullable=False, server_default="0"),
    # Never before taken_at. One that is was left by an earlier estate: the version that took the shard since
    # does not know the column.
    Column("named_until", BigInteger),
)

shard_locks = Table(
    "des_shard_locks",
    metadata,
    # A row is never deleted: its epoch must outlive every holder.
    Column("shard_id", BigInteger, primary_key=True, autoincrement=False),
    Column("holder", String(36), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("acquired_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
    # Of the holder's data folder; empty for holders outside a cluster.
    Column("node", String(36), nullable=False, server_default=""),
    CheckConstraint("shard_id >= 0", name="shard"),
    CheckConstraint("epoch >= 0", name="epoch"),
    CheckConstraint(
        "(state = 'held' AND holder <> '') OR (state = 'free' AND holder = '' AND expires_at = 0)",
        name="state",
    ),
)

containers = Table(
    "des_containers",
    metadata,
    Column("container_id", String(36), primary_key=True),
    Column("day", String(8), nullable=False),
    Column("shard_id", BigInteger, nullable=False),
    Column("shard_span", BigInteger, nullable=False),
    Column("shard_bits", SmallInteger, nullable=False),
    Column("hash_first", BigInteger, nullable=False),
    Column("hash_stop", BigInteger, nullable=False),
    # NULL for an open container, as is its checksum: it has no object.
    Column("key", Text, nullable=True, unique=True),
    Column("state", String(16), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("layout", String(16), nullable=False),
    Column("sha256", String(64), nullable=True),
    Column("size", BigInteger, nullable=False),
    Column("data_start", BigInteger, nullable=False),
    Column("data_length", BigInteger, nullable=False),
    Column("meta_start", BigInteger, nullable=False),
    Column("meta_length", BigInteger, nullable=False),
    Column("index_start", BigInteger, nullable=False),
    Column("index_length", BigInteger, nullable=False),
    Column("file_count", Integer, nullable=False),
    Column("name_ms_first", BigInteger, nullable=False),
    Column("name_ms_last", BigInteger, nullable=False),
    Column("data_bytes", BigInteger, nullable=False),
    Column("node", String(36), nullable=False),
    Column("etag", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=True),
    Column("ext_table_start", BigInteger, nullable=False, server_default="0"),
    Column("pages_start", BigInteger, nullable=False, server_default="0"),
    Column("pages_length", BigInteger, nullable=False, server_default="0"),
    Column("page_count", BigInteger, nullable=False, server_default="0"),
    Column("replaces", Text, nullable=False, server_default=""),
    Column("retired_at", BigInteger, nullable=True),
    Column("abandoned_at", BigInteger, nullable=True),
    # A row stays when its object is gone: the log of a node that was away may still name it.
    Column("removed_at", BigInteger, nullable=True),
    # Empty where they are not known: whoever lists has to ask the container.
    Column("name_first", Text, nullable=False, server_default=""),
    Column("name_last", Text, nullable=False, server_default=""),
    CheckConstraint("length(day) = 8", name="day"),
    CheckConstraint(
        "shard_span >= 1 AND (shard_span & (shard_span - 1)) = 0 AND shard_id >= 0 "
        "AND shard_id % shard_span = 0",
        name="run",
    ),
    CheckConstraint(
        f"shard_bits BETWEEN 0 AND {HASH_BITS} AND 0 <= hash_first AND hash_first < hash_stop "
        f"AND hash_stop <= {1 << HASH_BITS}",
        name="hash",
    ),
    CheckConstraint(
        "(etag <> '') = (stored_at IS NOT NULL) AND ("
        f"(state IN ('{OPEN}', '{ContainerState.UPLOADING}') AND stored_at IS NULL AND abandoned_at IS NULL) "
        f"OR (state = '{ContainerState.STORED}' AND stored_at IS NOT NULL AND retired_at IS NULL) "
        f"OR (state = '{ContainerState.RETIRED}' AND stored_at IS NOT NULL AND retired_at IS NOT NULL) "
        f"OR (state = '{ContainerState.ABANDONED}' AND stored_at IS NULL AND abandoned_at IS NOT NULL))",
        name="state",
    ),
    CheckConstraint(
        "(retired_at IS NULL OR abandoned_at IS NULL) "
        "AND (removed_at IS NULL OR retired_at IS NOT NULL OR abandoned_at IS NOT NULL)",
        name="end",
    ),
    CheckConstraint("length(sha256) = 64", name="sha256"),
    CheckConstraint(
        f"(state = '{OPEN}') = (key IS NULL) AND (state = '{OPEN}') = (sha256 IS NULL) "
        f"AND (state = '{OPEN}') = (size = 0)",
        name="object",
    ),
    CheckConstraint(
        "size >= 0 AND data_start >= 0 AND data_length >= 0 AND meta_start >= 0 AND meta_length >= 0 "
        "AND index_start >= 0 AND index_length >= 0 AND data_start + data_length <= size "
        "AND meta_start + meta_length <= size AND index_start + index_length <= size",
        name="geometry",
    ),
    CheckConstraint(
        "file_count >= 0 AND data_bytes >= 0 AND name_ms_first <= name_ms_last AND epoch >= 0",
        name="counts",
    ),
    # The read path: the stored containers of a day, by place in the hash space.
    Index("ix_des_containers_day_state_hash_first", "day", "state", "hash_first"),
    # The few open ones among all.
    Index(
        "ix_des_containers_open",
        "shard_id",
        postgresql_where=text(f"state = '{OPEN}'"),
        sqlite_where=text(f"state = '{OPEN}'"),
    ),
)

# A literal, without which neither database would use the index of open rows.
IS_OPEN: Final = containers.c.state == literal_column(f"'{OPEN}'")

tombstones = Table(
    "des_tombstones",
    metadata,
    # A row is never removed: the name never becomes free.
    Column("name", Text, primary_key=True),
    Column("day", String(8), nullable=False),
    Column("shard_id", BigInteger, nullable=False),
    Column("shard_bits", SmallInteger, nullable=False),
    # Of the name, whatever the shard bits are: `consistent_hash(name, HASH_BITS)`.
    Column("hash", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("external_key", Text, nullable=False),
    Column("deleted_at", BigInteger, nullable=False),
    Column("purged_at", BigInteger, nullable=True),
    CheckConstraint("length(day) = 8", name="day"),
    CheckConstraint(f"0 <= hash AND hash < {1 << HASH_BITS}", name="hash"),
    Index("ix_des_tombstones_day_hash", "day", "hash"),
)

log_segments = Table(
    "des_log_segments",
    metadata,
    Column("node", String(36), primary_key=True),
    Column("boot_epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False, unique=True),
    Column("etag", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("file_count", Integer, nullable=False),
    # Days with commas between; shards as one hexadecimal number with a bit for each.
    Column("days", Text, nullable=False),
    Column("shards", Text, nullable=False),
    Column("shard_bits", SmallInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("released_at", BigInteger, nullable=True),
    CheckConstraint("length(sha256) = 64 AND etag <> ''", name="object"),
    CheckConstraint(
        "size > 0 AND file_count > 0 AND first_seq <= last_seq AND boot_epoch >= 0 AND number >= 0",
        name="counts",
    ),
    CheckConstraint(
        f"(state = '{LogSegmentState.HELD}' AND shards <> '0' AND released_at IS NULL) "
        f"OR (state = '{LogSegmentState.RELEASED}' AND shards = '0' AND released_at IS NOT NULL)",
        name="state",
    ),
    Index("ix_des_log_segments_state_node", "state", "node"),
)

gc_sightings = Table(
    "des_gc_sightings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("etag", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    CheckConstraint("size >= 0 AND first_at <= last_at", name="times"),
)

name_marks = Table(
    "des_name_marks",
    metadata,
    # A row is never deleted: its mark must outlive every process that gave names with the id.
    Column("node_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("mark_ms", BigInteger, nullable=False),
    CheckConstraint("node_id BETWEEN 0 AND 255", name="node_id"),
)
