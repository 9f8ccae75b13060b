"""How many files a lost node had open of a shard, as it last told."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("des_estates", sa.Column("open_files", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("des_estates") as batch:
        batch.drop_column("open_files")
