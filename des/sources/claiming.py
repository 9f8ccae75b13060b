"""Parts of a transaction over claimed rows: found and locked, taken, settled; in the thread of the source."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row

from des.naming import consistent_hash
from des.sources import statements
from des.sources.config import SourceConfig
from des.sources.dialects import Dialect
from des.sources.row_rules import HASH_BITS, error_text
from des.sources.rows import ClaimedRow, ClaimOwner, FailReason, PackedRow, RowId, Settled
from des.sources.source_table import SourceTable

PAGES_MAX: Final = 20
"""Pages of rows that one claim reads at most where the table has no shard column."""


def search(
    connection: Connection,
    table: SourceTable,
    dialect: Dialect,
    shards: Collection[int],
    *,
    status: str,
    now: int,
    bits: int,
    limit: int,
    store_mark: str = "",
    known: Collection[RowId] = (),
) -> list[Row[Any]]:
    """Find rows of some shards by their names and lock them: pages of all rows, in the order of ids."""
    after: RowId | None = None
    page_size = max(limit, statements.IDS_MAX)
    chosen: list[RowId] = []
    for _ in range(PAGES_MAX):
        query = statements.named_rows(
            table, status=status, now_ms=now, limit=page_size, after=after, store_mark=store_mark
        )
        page = connection.execute(query).all()
        chosen += [
            row.id
            for row in page
            if row.name and row.id not in known and consistent_hash(row.name, bits) in shards
        ]
        if len(page) < page_size or len(chosen) >= limit:
            break
        after = page[-1].id
    rows: list[Row[Any]] = []
    for portion in portions(chosen[:limit]):
        query = statements.lock_ids(table, dialect, ids=portion, status=status)
        rows += connection.execute(query).all()
    return rows


def take(
    connection: Connection,
    table: SourceTable,
    rows: Sequence[Row[Any]],
    *,
    source: str,
    owner: ClaimOwner,
    now: int,
    bits: int,
) -> list[ClaimedRow]:
    """Write the claim into locked rows; a row in a wrong shard is put where it belongs instead."""
    claimed: list[ClaimedRow] = []
    moved: list[dict[str, Any]] = []
    for row in rows:
        shard = consistent_hash(row.name, bits) if row.name else -1
        if table.has("shard") and row.name and row.shard != shard:
            moved.append(
                {"row_id": row.id, "new_shard": shard, "new_hash": consistent_hash(row.name, HASH_BITS)}
            )
            continue
        claimed.append(_claimed(source, table.config, row, shard))
    expires = now + int(table.config.claim.timeout_s * 1000)
    for portion in portions([row.id for row in claimed]):
        connection.execute(statements.take(table, ids=portion, token=owner.token, expires_ms=expires))
    if moved:
        each(connection, statements.reshard(table), moved)
    return claimed


def settle(
    connection: Connection, table: SourceTable, packed: Sequence[PackedRow], owner: ClaimOwner
) -> Settled:
    """Say of each row what became of it; one that points at another object by now is failed."""
    values = table.config.status_values
    by_id = {one.row.id: one for one in packed}
    done = changed = lost = 0
    found: set[RowId] = set()
    for portion in portions(list(by_id)):
        for row in connection.execute(statements.by_id(table, portion)):
            found.add(row.id)
            ours = by_id[row.id]
            if row.status == values.packed and row.container == ours.container_id:
                done += 1
            elif row.status == values.claimed and row.claim_token == owner.token:
                changed += each(
                    connection,
                    statements.give_back(table, token=owner.token),
                    [
                        {
                            "row_id": row.id,
                            "new_status": values.failed,
                            "new_attempts": ours.row.attempts + 1,
                            "reason": error_text(
                                FailReason.ROW_CHANGED,
                                f"{ours.row.bucket}/{ours.row.key} was packed as {ours.row.name}",
                                table.text_length("error"),
                            ),
                            "not_before": None,
                        }
                    ],
                )
            else:
                lost += 1
    return Settled(packed=done, gone=len(by_id) - len(found), changed=changed, lost=lost)


def each(connection: Connection, statement: Any, parameters: Sequence[Mapping[str, Any]]) -> int:
    """Run a statement for each set of parameters; return how many rows it changed in all."""
    if not parameters:
        return 0
    return connection.execute(statement, list(parameters)).rowcount


def portions(ids: Sequence[RowId]) -> Iterable[Sequence[RowId]]:
    """Cut ids into lists short enough for one statement."""
    for start in range(0, len(ids), statements.IDS_MAX):
        yield ids[start : start + statements.IDS_MAX]


def _claimed(source: str, config: SourceConfig, row: Row[Any], shard: int) -> ClaimedRow:
    values = row._mapping  # noqa: SLF001  SQLAlchemy's public name for it
    metadata = {}
    for place, key in enumerate(config.columns.metadata):
        value = values[f"metadata_{place}"]
        if value is not None:
            metadata[key] = _text(value)
    size = values.get("size")
    return ClaimedRow(
        source=source,
        id=row.id,
        name=row.name or "",
        shard=shard,
        bucket=config.objects.bucket if config.columns.bucket is None else values["bucket"],
        key=values["key"],
        etag=(values.get("etag") or None),
        size=None if size is None else int(size),
        content_type=values.get("content_type") or "",
        metadata=metadata,
        attempts=int(row.attempts or 0),
        reclaimed=bool(row.claim_token),
    )


def _text(value: Any) -> str:
    """Return a column's value as text: times in ISO 8601, truth as in JSON, the rest as Python prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
