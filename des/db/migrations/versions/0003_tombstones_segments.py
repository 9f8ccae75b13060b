"""Tombstones, shipped log segments, and the ends of a container's life: retired, abandoned, removed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATES_BEFORE = (
    "(state = 'uploading' AND etag = '' AND stored_at IS NULL) "
    "OR (state = 'stored' AND etag <> '' AND stored_at IS NOT NULL)"
)
STATES = (
    "(etag <> '') = (stored_at IS NOT NULL) AND ("
    "(state = 'uploading' AND stored_at IS NULL AND abandoned_at IS NULL) "
    "OR (state = 'stored' AND stored_at IS NOT NULL AND retired_at IS NULL) "
    "OR (state = 'retired' AND stored_at IS NOT NULL AND retired_at IS NOT NULL) "
    "OR (state = 'abandoned' AND stored_at IS NULL AND abandoned_at IS NOT NULL))"
)
END = (
    "(retired_at IS NULL OR abandoned_at IS NULL) "
    "AND (removed_at IS NULL OR retired_at IS NOT NULL OR abandoned_at IS NOT NULL)"
)


def upgrade() -> None:
    with op.batch_alter_table("des_containers") as batch:
        batch.add_column(sa.Column("replaces", sa.Text, nullable=False, server_default=""))
        for name in ("retired_at", "abandoned_at", "removed_at"):
            batch.add_column(sa.Column(name, sa.BigInteger, nullable=True))
        batch.drop_constraint(op.f("ck_des_containers_state"), type_="check")
        batch.create_check_constraint(op.f("ck_des_containers_state"), STATES)
        batch.create_check_constraint(op.f("ck_des_containers_end"), END)
    op.create_table(
        "des_tombstones",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("day", sa.String(8), nullable=False),
        sa.Column("shard_id", sa.BigInteger, nullable=False),
        sa.Column("shard_bits", sa.SmallInteger, nullable=False),
        sa.Column("hash", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("external_key", sa.Text, nullable=False),
        sa.Column("deleted_at", sa.BigInteger, nullable=False),
        sa.Column("purged_at", sa.BigInteger, nullable=True),
        sa.CheckConstraint("length(day) = 8", name=op.f("ck_des_tombstones_day")),
        sa.CheckConstraint("0 <= hash AND hash < 4294967296", name=op.f("ck_des_tombstones_hash")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_des_tombstones")),
    )
    op.create_index(op.f("ix_des_tombstones_day_hash"), "des_tombstones", ["day", "hash"], unique=False)
    op.create_table(
        "des_log_segments",
        sa.Column("node", sa.String(36), nullable=False),
        sa.Column("boot_epoch", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("file_count", sa.Integer, nullable=False),
        sa.Column("days", sa.Text, nullable=False),
        sa.Column("shards", sa.Text, nullable=False),
        sa.Column("shard_bits", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("released_at", sa.BigInteger, nullable=True),
        sa.CheckConstraint("length(sha256) = 64 AND etag <> ''", name=op.f("ck_des_log_segments_object")),
        sa.CheckConstraint(
            "size > 0 AND file_count > 0 AND first_seq <= last_seq AND boot_epoch >= 0 AND number >= 0",
            name=op.f("ck_des_log_segments_counts"),
        ),
        sa.CheckConstraint(
            "(state = 'held' AND shards <> '0' AND released_at IS NULL) "
            "OR (state = 'released' AND shards = '0' AND released_at IS NOT NULL)",
            name=op.f("ck_des_log_segments_state"),
        ),
        sa.PrimaryKeyConstraint("node", "boot_epoch", "number", name=op.f("pk_des_log_segments")),
        sa.UniqueConstraint("key", name=op.f("uq_des_log_segments_key")),
    )
    op.create_index(
        op.f("ix_des_log_segments_state_node"), "des_log_segments", ["state", "node"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_des_log_segments_state_node"), table_name="des_log_segments")
    op.drop_table("des_log_segments")
    op.drop_index(op.f("ix_des_tombstones_day_hash"), table_name="des_tombstones")
    op.drop_table("des_tombstones")
    # The earlier schema has no word for these states, and readers of it would take the rows for live ones.
    op.execute("DELETE FROM des_containers WHERE state IN ('retired', 'abandoned')")
    with op.batch_alter_table("des_containers") as batch:
        batch.drop_constraint(op.f("ck_des_containers_end"), type_="check")
        batch.drop_constraint(op.f("ck_des_containers_state"), type_="check")
        batch.create_check_constraint(op.f("ck_des_containers_state"), STATES_BEFORE)
        for name in ("removed_at", "abandoned_at", "retired_at", "replaces"):
            batch.drop_column(name)
