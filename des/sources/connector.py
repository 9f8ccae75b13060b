"""`SourceDatabaseConnector`: what marker and packers ask of one source database.

Each call is one transaction and may be repeated. Times are the source's own clock's, never this machine's.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select

from des.clock import Clock, SystemClock
from des.sources import statements
from des.sources.claiming import each, portions, search, settle, take
from des.sources.config import SourceConfig
from des.sources.engine import SourceEngine
from des.sources.errors import SourceSchemaError
from des.sources.row_rules import Naming, backoff_ms, error_text, name_row
from des.sources.rows import (
    RENAMED,
    RETRIED,
    ClaimedRow,
    ClaimOwner,
    FailedRow,
    FailReason,
    MarkedBatch,
    PackedRow,
    RowId,
    Settled,
    StatusCounts,
)
from des.sources.source_table import SourceTable, reflect

T = TypeVar("T")


class SourceDatabaseConnector:
    """One source's database."""

    def __init__(self, name: str, config: SourceConfig, *, clock: Clock | None = None) -> None:
        """Connect nothing yet.

        Raises:
            DriverMissingError: the database's driver is not installed.
        """
        self.name = name
        self.config = config
        self._engine = SourceEngine(name, config, clock or SystemClock())
        self._table: SourceTable | None = None

    async def open(self) -> SourceTable:
        """Look at the table, once, and hold it against the configuration. Every other call does it too.

        Raises:
            SourceSchemaError: it does not fit; one line per mistake.
            SourceUnavailableError, SourceRefusedError: as every other call.
        """
        if self._table is None:
            self._table = await self._engine.read(lambda connection: reflect(connection, self.config))
        return self._table

    async def now_ms(self) -> int:
        """Return UTC milliseconds since 1970 by the database's clock."""
        return await self._engine.read(self._now)

    # --- marking ----------------------------------------------------------------------------

    async def mark_batch(
        self,
        names: Sequence[str],
        *,
        shard_bits: int,
        passed: Sequence[RowId] = (),
        only: RowId | None = None,
    ) -> MarkedBatch:
        """Give the first eligible rows a name each, or say why they can have none.

        Args:
            names: new ones, at most this many rows are marked.
            shard_bits: of the store.
            passed: ids to leave out.
            only: one id, when a batch failed because of one of its rows.

        Raises:
            RowRefusedError: the table refuses one of the rows; nothing was written.
        """
        table = await self.open()

        def work(connection: Connection) -> MarkedBatch:
            now = self._now(connection)
            query = statements.eligible(
                table, self._engine.dialect, now_ms=now, limit=len(names), passed=passed
            )
            if only is not None:
                query = query.where(table.column("id") == only)
            rows = connection.execute(query).all()
            spare = iter(names)
            named = [name_row(row, lambda: next(spare), shard_bits=shard_bits) for row in rows]
            marks = [one.parameters(table) for one in named if isinstance(one, Naming)]
            dead = [one for one in named if not isinstance(one, Naming)]
            each(connection, statements.mark(table), marks)
            each(
                connection,
                statements.fail_eligible(table),
                [
                    {"row_id": one.id, "reason": error_text(one.reason, one.text, table.text_length("error"))}
                    for one in dead
                ],
            )
            return MarkedBatch(found=len(rows), marked=len(marks), failed=len(dead))

        return await self._write(work)

    async def eligible_ids(self, limit: int, *, passed: Sequence[RowId] = ()) -> list[RowId]:
        """Return ids of rows that the next batch would mark."""
        table = await self.open()

        def work(connection: Connection) -> list[RowId]:
            query = statements.eligible(
                table, self._engine.dialect, now_ms=self._now(connection), limit=limit, passed=passed
            )
            return [row.id for row in connection.execute(query)]

        return await self._write(work)

    async def fail_unclaimed(self, row_id: RowId, reason: FailReason, text: str) -> None:
        """Turn a row that cannot be marked to `failed`."""
        table = await self.open()
        values = {"row_id": row_id, "reason": error_text(reason, text, table.text_length("error"))}
        await self._write(lambda connection: each(connection, statements.fail_eligible(table), [values]))

    # --- claiming ---------------------------------------------------------------------------

    async def claim(
        self, shards: Sequence[int], *, owner: ClaimOwner, shard_bits: int, limit: int
    ) -> list[ClaimedRow]:
        """Claim marked rows of these shards, shard by shard, each in the order of its ids.

        Raises:
            SourceUnavailableError: rows may have been claimed; `adopt` finds them.
        """
        table = await self.open()

        def work(connection: Connection) -> list[ClaimedRow]:
            now = self._now(connection)
            found: list[Row[Any]] = []
            if table.has("shard"):
                for shard in shards:
                    if len(found) < limit:
                        query = statements.claimable(
                            table,
                            self._engine.dialect,
                            shard=shard,
                            now_ms=now,
                            limit=limit - len(found),
                        )
                        found += connection.execute(query).all()
            else:
                found = search(
                    connection,
                    table,
                    self._engine.dialect,
                    set(shards),
                    status="marked",
                    now=now,
                    bits=shard_bits,
                    limit=limit,
                )
            return take(connection, table, found, source=self.name, owner=owner, now=now, bits=shard_bits)

        return await self._write(work)

    async def adopt(
        self,
        shards: Sequence[int],
        *,
        owner: ClaimOwner,
        shard_bits: int,
        known: Collection[RowId],
        limit: int,
        predecessors: bool,
    ) -> list[ClaimedRow]:
        """Claim rows whose claim ran out; with `predecessors` also those of this store not in `known`.

        The caller holds the locks of the shards, and `known` are all rows that it works on.
        """
        table = await self.open()
        store_mark = owner.store_mark if predecessors else ""

        def work(connection: Connection) -> list[ClaimedRow]:
            now = self._now(connection)
            found: list[Row[Any]] = []
            if not table.has("shard"):
                found = search(
                    connection,
                    table,
                    self._engine.dialect,
                    set(shards),
                    status="claimed",
                    now=now,
                    bits=shard_bits,
                    limit=limit,
                    store_mark=store_mark,
                    known=known,
                )
                return take(connection, table, found, source=self.name, owner=owner, now=now, bits=shard_bits)
            for shard in shards:
                after: RowId | None = None
                while len(found) < limit:
                    query = statements.abandoned(
                        table,
                        self._engine.dialect,
                        shard=shard,
                        now_ms=now,
                        limit=limit,
                        store_mark=store_mark,
                        after=after,
                    )
                    page = connection.execute(query).all()
                    found += [row for row in page if row.id not in known]
                    if len(page) < limit:
                        break
                    after = page[-1].id
            return take(
                connection, table, found[:limit], source=self.name, owner=owner, now=now, bits=shard_bits
            )

        return await self._write(work)

    async def renew(self, ids: Sequence[RowId], *, owner: ClaimOwner) -> int:
        """Put off the end of these claims; return how many still were the owner's."""
        table = await self.open()

        def work(connection: Connection) -> int:
            expires = self._now(connection) + int(self.config.claim.timeout_s * 1000)
            return sum(
                connection.execute(
                    statements.renew(table, ids=portion, token=owner.token, expires_ms=expires)
                ).rowcount
                for portion in portions(ids)
            )

        return await self._write(work)

    async def mark_packed(self, packed: Sequence[PackedRow], *, owner: ClaimOwner) -> Settled:
        """Turn claimed rows to `packed`. Rows that changed meanwhile are told apart, one by one."""
        table = await self.open()
        statement = statements.pack(table, token=owner.token)

        def parameters(one: PackedRow) -> dict[str, Any]:
            values = {
                "row_id": one.row.id,
                "row_name": one.row.name,
                "row_key": one.row.key,
                "new_container": one.container_id,
                "new_checksum": one.sha256,
            }
            return values | ({"row_bucket": one.row.bucket} if table.has("bucket") else {})

        def work(connection: Connection) -> Settled:
            done = each(connection, statement, [parameters(one) for one in packed])
            if done == len(packed):
                return Settled(packed=done, gone=0, changed=0, lost=0)
            return settle(connection, table, packed, owner)

        return await self._write(work)

    async def fail(self, row: ClaimedRow, reason: FailReason, text: str, *, owner: ClaimOwner) -> bool:
        """Count a failure of a claimed row: it may be tried again later, or is `failed` for good.

        Returns whether it is failed for good.
        """
        table = await self.open()
        claim = self.config.claim
        attempts = row.attempts + 1
        final = attempts >= claim.attempts or reason not in RETRIED
        values = self.config.status_values

        def work(connection: Connection) -> None:
            wait_ms = backoff_ms(attempts, first_s=claim.backoff_first_s, max_s=claim.backoff_max_s)
            each(
                connection,
                statements.give_back(table, token=owner.token),
                [
                    {
                        "row_id": row.id,
                        "new_status": values.failed if final else values.marked,
                        "new_attempts": attempts,
                        "reason": error_text(reason, text, table.text_length("error")),
                        "not_before": None if final else self._now(connection) + wait_ms,
                    }
                ],
            )

        await self._write(work)
        return final

    async def release(self, rows: Sequence[ClaimedRow], *, owner: ClaimOwner, wait_s: float = 0) -> None:
        """Give claims back without counting a failure; nobody claims the rows again within `wait_s`."""
        table = await self.open()

        def work(connection: Connection) -> None:
            not_before = self._now(connection) + int(wait_s * 1000) if wait_s else None
            each(
                connection,
                statements.give_back(table, token=owner.token),
                [
                    {
                        "row_id": row.id,
                        "new_status": self.config.status_values.marked,
                        "new_attempts": row.attempts,
                        "reason": None,
                        "not_before": not_before,
                    }
                    for row in rows
                ],
            )

        await self._write(work)

    # --- for people -------------------------------------------------------------------------

    async def counts(self) -> StatusCounts:
        """Count rows by status; on a large table this takes as long as reading an index of it."""
        table = await self.open()
        rows = await self._read(lambda connection: connection.execute(statements.counts(table)).all())
        by_status = {row.status: row.rows for row in rows}
        values = self.config.status_values
        known = {
            field: by_status.pop(getattr(values, field), 0)
            for field in ("pending", "marked", "claimed", "packed", "failed")
        }
        return StatusCounts(**known, other=sum(by_status.values()))

    async def failed(
        self, *, limit: int, after: RowId | None = None, reasons: Iterable[str] = ()
    ) -> list[FailedRow]:
        """Return dead letters in the order of their ids."""
        table = await self.open()
        query = statements.failed(table, limit=limit, after=after, reasons=reasons)
        rows = await self._read(lambda connection: connection.execute(query).all())
        return [FailedRow(row.id, row.name, row.attempts or 0, row.error or "") for row in rows]

    async def retry_failed(self, rows: Sequence[FailedRow]) -> int:
        """Return dead letters to life with their name, or without where it stands for other bytes."""
        table = await self.open()
        values = self.config.status_values

        def parameters(row: FailedRow) -> dict[str, Any]:
            keeps = bool(row.name) and row.error.split(":", 1)[0] not in RENAMED
            return {
                "row_id": row.id,
                "new_status": values.marked if keeps else values.pending,
                "new_name": row.name if keeps else None,
            }

        return await self._write(
            lambda connection: each(connection, statements.revive(table), [parameters(row) for row in rows])
        )

    async def close(self) -> None:
        """Give connections back."""
        await self._engine.close()

    # --- inside -----------------------------------------------------------------------------

    async def _write(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._engine.write(work)
        except SourceSchemaError:
            self._table = None  # it was changed: look again
            raise

    async def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._engine.read(work)
        except SourceSchemaError:
            self._table = None
            raise

    def _now(self, connection: Connection) -> int:
        # Oracle wants FROM DUAL, which SQLAlchemy adds; the others want nothing.
        return int(connection.execute(select(self._engine.dialect.now_ms())).scalar_one())
