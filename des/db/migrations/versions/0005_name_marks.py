"""Up to which time a name service may have given names, by node id."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "des_name_marks",
        sa.Column("node_id", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("mark_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint("node_id BETWEEN 0 AND 255", name=op.f("ck_des_name_marks_node_id")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_des_name_marks")),
    )


def downgrade() -> None:
    op.drop_table("des_name_marks")
