"""The first tables: store, nodes, shard locks, containers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "des_store",
        sa.Column("singleton", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("store_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("singleton = 1", name=op.f("ck_des_store_one_row")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_des_store")),
    )
    op.create_table(
        "des_nodes",
        sa.Column("node", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("boot_epoch", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_des_nodes")),
    )
    op.create_table(
        "des_shard_locks",
        sa.Column("shard_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("acquired_at", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.CheckConstraint("shard_id >= 0", name=op.f("ck_des_shard_locks_shard")),
        sa.CheckConstraint("epoch >= 0", name=op.f("ck_des_shard_locks_epoch")),
        sa.CheckConstraint(
            "(state = 'held' AND holder <> '') OR (state = 'free' AND holder = '' AND expires_at = 0)",
            name=op.f("ck_des_shard_locks_state"),
        ),
        sa.PrimaryKeyConstraint("shard_id", name=op.f("pk_des_shard_locks")),
    )
    op.create_table(
        "des_containers",
        sa.Column("container_id", sa.String(36), nullable=False),
        sa.Column("day", sa.String(8), nullable=False),
        sa.Column("shard_id", sa.BigInteger, nullable=False),
        sa.Column("shard_span", sa.BigInteger, nullable=False),
        sa.Column("shard_bits", sa.SmallInteger, nullable=False),
        sa.Column("hash_first", sa.BigInteger, nullable=False),
        sa.Column("hash_stop", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("layout", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("data_start", sa.BigInteger, nullable=False),
        sa.Column("data_length", sa.BigInteger, nullable=False),
        sa.Column("meta_start", sa.BigInteger, nullable=False),
        sa.Column("meta_length", sa.BigInteger, nullable=False),
        sa.Column("index_start", sa.BigInteger, nullable=False),
        sa.Column("index_length", sa.BigInteger, nullable=False),
        sa.Column("file_count", sa.Integer, nullable=False),
        sa.Column("name_ms_first", sa.BigInteger, nullable=False),
        sa.Column("name_ms_last", sa.BigInteger, nullable=False),
        sa.Column("data_bytes", sa.BigInteger, nullable=False),
        sa.Column("node", sa.String(36), nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=True),
        sa.CheckConstraint("length(day) = 8", name=op.f("ck_des_containers_day")),
        sa.CheckConstraint(
            "shard_span >= 1 AND (shard_span & (shard_span - 1)) = 0 AND shard_id >= 0 "
            "AND shard_id % shard_span = 0",
            name=op.f("ck_des_containers_run"),
        ),
        sa.CheckConstraint(
            "shard_bits BETWEEN 0 AND 32 AND 0 <= hash_first AND hash_first < hash_stop "
            "AND hash_stop <= 4294967296",
            name=op.f("ck_des_containers_hash"),
        ),
        sa.CheckConstraint(
            "(state = 'uploading' AND etag = '' AND stored_at IS NULL) "
            "OR (state = 'stored' AND etag <> '' AND stored_at IS NOT NULL)",
            name=op.f("ck_des_containers_state"),
        ),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_des_containers_sha256")),
        sa.CheckConstraint(
            "size > 0 AND data_start >= 0 AND data_length >= 0 AND meta_start >= 0 AND meta_length >= 0 "
            "AND index_start >= 0 AND index_length >= 0 AND data_start + data_length <= size "
            "AND meta_start + meta_length <= size AND index_start + index_length <= size",
            name=op.f("ck_des_containers_geometry"),
        ),
        sa.CheckConstraint(
            "file_count >= 0 AND data_bytes >= 0 AND name_ms_first <= name_ms_last AND epoch >= 0",
            name=op.f("ck_des_containers_counts"),
        ),
        sa.PrimaryKeyConstraint("container_id", name=op.f("pk_des_containers")),
        sa.UniqueConstraint("key", name=op.f("uq_des_containers_key")),
    )
    op.create_index(
        op.f("ix_des_containers_day_state_hash_first"),
        "des_containers",
        ["day", "state", "hash_first"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_des_containers_day_state_hash_first"), table_name="des_containers")
    op.drop_table("des_containers")
    op.drop_table("des_shard_locks")
    op.drop_table("des_nodes")
    op.drop_table("des_store")
