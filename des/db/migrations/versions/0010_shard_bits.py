"""Into how many shards the store is divided, and shall be."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COLUMNS = ("shard_bits", "shard_generation", "next_shard_bits", "next_shard_bits_at")


def upgrade() -> None:
    op.add_column("des_store", sa.Column("shard_bits", sa.SmallInteger))
    op.add_column(
        "des_store", sa.Column("shard_generation", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("des_store", sa.Column("next_shard_bits", sa.SmallInteger))
    op.add_column("des_store", sa.Column("next_shard_bits_at", sa.BigInteger))


def downgrade() -> None:
    with op.batch_alter_table("des_store") as batch:
        for column in reversed(COLUMNS):
            batch.drop_column(column)
