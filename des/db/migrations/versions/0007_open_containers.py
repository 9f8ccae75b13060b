"""Rows of open containers: what shards have in no container, as their holders last said."""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATES_BEFORE = (
    "(etag <> '') = (stored_at IS NOT NULL) AND ("
    "(state = 'uploading' AND stored_at IS NULL AND abandoned_at IS NULL) "
    "OR (state = 'stored' AND stored_at IS NOT NULL AND retired_at IS NULL) "
    "OR (state = 'retired' AND stored_at IS NOT NULL AND retired_at IS NOT NULL) "
    "OR (state = 'abandoned' AND stored_at IS NULL AND abandoned_at IS NOT NULL))"
)
STATES = STATES_BEFORE.replace("state = 'uploading'", "state IN ('open', 'uploading')")
OBJECT = (
    "(state = 'open') = (key IS NULL) AND (state = 'open') = (sha256 IS NULL) "
    "AND (state = 'open') = (size = 0)"
)
GEOMETRY_BEFORE = (
    "size > 0 AND data_start >= 0 AND data_length >= 0 AND meta_start >= 0 AND meta_length >= 0 "
    "AND index_start >= 0 AND index_length >= 0 AND data_start + data_length <= size "
    "AND meta_start + meta_length <= size AND index_start + index_length <= size"
)
GEOMETRY = GEOMETRY_BEFORE.replace("size > 0", "size >= 0", 1)


def upgrade() -> None:
    with op.batch_alter_table("des_containers") as batch:
        batch.alter_column("key", existing_type=sa.Text, nullable=True)
        batch.alter_column("sha256", existing_type=sa.String(64), nullable=True)
        batch.drop_constraint(op.f("ck_des_containers_state"), type_="check")
        batch.create_check_constraint(op.f("ck_des_containers_state"), STATES)
        batch.drop_constraint(op.f("ck_des_containers_geometry"), type_="check")
        batch.create_check_constraint(op.f("ck_des_containers_geometry"), GEOMETRY)
        batch.create_check_constraint(op.f("ck_des_containers_object"), OBJECT)
        _keep_default(batch)
    op.create_index(
        op.f("ix_des_containers_open"),
        "des_containers",
        ["shard_id"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_des_containers_open"), table_name="des_containers")
    # A shadow of what the logs hold: nothing is lost with it.
    op.execute("DELETE FROM des_containers WHERE state = 'open'")
    with op.batch_alter_table("des_containers") as batch:
        batch.drop_constraint(op.f("ck_des_containers_object"), type_="check")
        batch.drop_constraint(op.f("ck_des_containers_geometry"), type_="check")
        batch.create_check_constraint(op.f("ck_des_containers_geometry"), GEOMETRY_BEFORE)
        batch.drop_constraint(op.f("ck_des_containers_state"), type_="check")
        batch.create_check_constraint(op.f("ck_des_containers_state"), STATES_BEFORE)
        batch.alter_column("sha256", existing_type=sa.String(64), nullable=False)
        batch.alter_column("key", existing_type=sa.Text, nullable=False)
        _keep_default(batch)


def _keep_default(batch: BatchOperations) -> None:
    # SQLite's copy of a table would spell it otherwise.
    batch.alter_column("replaces", existing_type=sa.Text, existing_nullable=False, server_default="")
