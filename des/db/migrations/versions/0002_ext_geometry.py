"""Where the hash pages of a container lie; 0 for containers without them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = ("ext_table_start", "pages_start", "pages_length", "page_count")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("des_containers", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("des_containers", name)
