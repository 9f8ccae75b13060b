"""First and last name of each container; empty for those of before, whose names are not known."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = ("name_first", "name_last")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("des_containers", sa.Column(name, sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("des_containers", name)
