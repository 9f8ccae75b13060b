"""Marks of name services that have no ingest log: no name with a node id carries a time past its mark."""

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db.connector import DesDbConnector
from des.db.schema import name_marks as table
from des.db.statements import insert_if_absent
from des.errors import UnavailableError


class NodeIdTakenError(UnavailableError):
    """Another process gives names with this node id: it has moved the mark since."""


class NameMarks:
    """The mark of one node id, moved by one process at a time.

    A process moves the mark only from where it left it. So of two processes with one node id the later one
    goes on behind the mark of the earlier one, and the earlier one stops at its mark.
    """

    def __init__(self, connector: DesDbConnector, node_id: int) -> None:
        self._connector = connector
        self._node_id = node_id
        self._mark_ms = 0

    async def take(self) -> int:
        """Return the mark, UTC milliseconds since 1970, and go on from it.

        Raises:
            CatalogUnavailableError: the database did not answer.
        """

        async def work(connection: AsyncConnection) -> int:
            await insert_if_absent(connection, table, [{"node_id": self._node_id, "mark_ms": 0}])
            return await _read(connection, self._node_id)

        self._mark_ms = await self._connector.write(work)
        return self._mark_ms

    async def move(self, mark_ms: int) -> None:
        """Move the mark; names up to it may be given when this returns.

        Raises:
            NodeIdTakenError: somebody else has moved it.
            CatalogUnavailableError: the database did not answer.
        """
        if mark_ms <= self._mark_ms:
            return

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(
                update(table)
                .where(table.c.node_id == self._node_id, table.c.mark_ms == self._mark_ms)
                .values(mark_ms=mark_ms)
            )
            return await _read(connection, self._node_id)

        found = await self._connector.write(work)
        if found != mark_ms:
            raise NodeIdTakenError(
                f"another process gives names with node id {self._node_id}: its mark is {found}, "
                f"this one left it at {self._mark_ms}",
                node=self._node_id,
            )
        self._mark_ms = mark_ms

    async def check(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            CatalogUnavailableError: it gave none.
        """
        await self._connector.read(lambda connection: _read(connection, self._node_id))


async def _read(connection: AsyncConnection, node_id: int) -> int:
    found: int = (
        await connection.execute(select(table.c.mark_ms).where(table.c.node_id == node_id))
    ).scalar_one()
    return found
