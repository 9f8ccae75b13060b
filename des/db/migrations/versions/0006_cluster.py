"""Nodes with heartbeats, leased node ids for names, and what lost nodes may still hold."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No version that was ever released wrote a row of the first form of this table.
    op.drop_table("des_nodes")
    op.create_table(
        "des_nodes",
        sa.Column("node", sa.String(36), nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("boot_epoch", sa.BigInteger, nullable=False),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("local_files", sa.Boolean, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("capacity > 0", name=op.f("ck_des_nodes_capacity")),
        sa.PrimaryKeyConstraint("node", name=op.f("pk_des_nodes")),
    )
    op.create_table(
        "des_node_ids",
        sa.Column("node_id", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("node", sa.String(36), nullable=False),
        sa.Column("floor_ms", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("node_id BETWEEN 0 AND 255", name=op.f("ck_des_node_ids_node_id")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_des_node_ids")),
        sa.UniqueConstraint("node", name=op.f("uq_des_node_ids_node")),
    )
    op.create_table(
        "des_estates",
        sa.Column("shard_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("node", sa.String(36), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("local_files", sa.Boolean, nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        sa.Column("settled_seq", sa.BigInteger, nullable=False),
        sa.Column("owed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("shard_id", "node", name=op.f("pk_des_estates")),
    )
    op.add_column("des_shard_locks", sa.Column("node", sa.String(36), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("des_shard_locks") as batch:
        batch.drop_column("node")
    op.drop_table("des_estates")
    op.drop_table("des_node_ids")
    op.drop_table("des_nodes")
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
