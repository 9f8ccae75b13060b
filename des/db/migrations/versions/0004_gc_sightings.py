"""Objects that nobody names, and since when: garbage is collected only after two sightings."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "des_gc_sightings",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("size >= 0 AND first_at <= last_at", name=op.f("ck_des_gc_sightings_times")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_des_gc_sightings")),
    )


def downgrade() -> None:
    op.drop_table("des_gc_sightings")
