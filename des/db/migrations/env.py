"""What Alembic runs: the migrations over the connection that `des.db.migration` hands it."""

from alembic import context

from des.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
context.run_migrations()
