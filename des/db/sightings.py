"""Statements over `des_gc_sightings`; each function is part of a transaction."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db.rows import Sighting
from des.db.schema import gc_sightings as table
from des.db.statements import in_portions, insert_if_absent, now_ms

_AGAIN: Final = (
    update(table)
    .where(table.c.key == bindparam("of"), table.c.etag == bindparam("same"))
    .values(last_at=bindparam("now"))
)
_ANEW: Final = (
    update(table)
    .where(table.c.key == bindparam("of"), table.c.etag != bindparam("same"))
    .values(
        etag=bindparam("same"),
        size=bindparam("size_now"),
        first_at=bindparam("now"),
        last_at=bindparam("now"),
    )
)


async def see(connection: AsyncConnection, seen: Sequence[Sighting]) -> list[Sighting]:
    """Keep when each object was first and last seen, forget all others; return them, by key."""
    now = await now_ms(connection)
    await _forget_others(connection, {one.key for one in seen})
    for portion in in_portions(seen):
        values = [{"of": one.key, "same": one.etag, "size_now": one.size, "now": now} for one in portion]
        await insert_if_absent(
            connection,
            table,
            [
                {"key": one.key, "etag": one.etag, "size": one.size, "first_at": now, "last_at": now}
                for one in portion
            ],
        )
        await connection.execute(_AGAIN, values)
        await connection.execute(_ANEW, values)
    return [_sighting(row) for row in await connection.execute(select(table).order_by(table.c.key))]


async def _forget_others(connection: AsyncConnection, keys: set[str]) -> None:
    known = [row.key for row in await connection.execute(select(table.c.key))]
    for portion in in_portions([key for key in known if key not in keys]):
        await connection.execute(delete(table).where(table.c.key.in_(portion)))


def _sighting(row: Row[Any]) -> Sighting:
    return Sighting(row.key, row.etag, row.size, row.first_at, row.last_at)
