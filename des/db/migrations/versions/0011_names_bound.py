"""How late the names of a lost node's files may be: which nodes bound them, and the bound of each estate."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("des_nodes", sa.Column("names_bound_by", sa.String(36), nullable=False, server_default=""))
    op.add_column("des_nodes", sa.Column("named_until", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("des_estates", sa.Column("named_until", sa.BigInteger))


def downgrade() -> None:
    with op.batch_alter_table("des_estates") as batch:
        batch.drop_column("named_until")
    with op.batch_alter_table("des_nodes") as batch:
        batch.drop_column("named_until")
        batch.drop_column("names_bound_by")
