"""The statements over a source's table: pure functions from the reflected table to SQL.

Values are always bound, identifiers always quoted by SQLAlchemy; nothing of the configuration is pasted
into SQL. `tests/golden/sources/` holds what they look like in every dialect.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final, assert_never

from sqlalchemy import (
    ColumnElement,
    Date,
    Integer,
    Numeric,
    Select,
    Update,
    bindparam,
    func,
    or_,
    select,
    update,
)

from des.sources.config import CompareFilter, Filter, MemberFilter, NullFilter, PrefixFilter
from des.sources.dialects import Dialect
from des.sources.rows import moment
from des.sources.source_table import SourceTable

IDS_MAX: Final = 500
"""Ids in one IN list; Oracle takes 1,000."""


def eligible(
    source: SourceTable, dialect: Dialect, *, now_ms: int, limit: int, passed: Sequence[Any]
) -> Select[Any]:
    """Return and lock rows to be marked, in the order of their ids; `passed` are ids to leave out."""
    config = source.config
    identity = source.column("id")
    chosen = select(identity).where(_has_status(source, "pending"))
    if config.mark.min_age_s:
        chosen = chosen.where(_older(source, now_ms - int(config.mark.min_age_s * 1000)))
    for one in config.filters:
        chosen = chosen.where(_condition(source, one))
    if passed:
        chosen = chosen.where(identity.not_in(passed))
    return dialect.locking(_read_columns(source), source.table, chosen.order_by(identity), limit)


def claimable(source: SourceTable, dialect: Dialect, *, shard: int, now_ms: int, limit: int) -> Select[Any]:
    """Return and lock marked rows of a shard whose time has come, in the order of their ids."""
    identity = source.column("id")
    expires = source.column("claim_expires")
    chosen = (
        select(identity)
        .where(_has_status(source, "marked"), source.column("shard") == shard)
        .where(or_(expires.is_(None), expires <= now_ms))
        .order_by(identity)
    )
    return dialect.locking(_read_columns(source), source.table, chosen, limit)


def abandoned(
    source: SourceTable, dialect: Dialect, *, shard: int, now_ms: int, limit: int, store_mark: str, after: Any
) -> Select[Any]:
    """Return and lock claimed rows of a shard whose claim ran out, or is of this store.

    While one process holds the lock of the shard, a claim of the same store that is not its own is of a
    predecessor, whose containers the lock's epoch keeps out of the catalog: nobody need wait for it.
    `store_mark` empty leaves those alone. `after` pages through many rows by id; None starts.
    """
    identity = source.column("id")
    token = source.column("claim_token")
    gone = source.column("claim_expires") <= now_ms
    if store_mark:
        gone = or_(gone, token.startswith(store_mark, autoescape=True))
    chosen = select(identity).where(_has_status(source, "claimed"), source.column("shard") == shard, gone)
    if after is not None:
        chosen = chosen.where(identity > after)
    return dialect.locking(_read_columns(source), source.table, chosen.order_by(identity), limit)


def named_rows(
    source: SourceTable, *, status: str, now_ms: int, limit: int, after: Any, store_mark: str = ""
) -> Select[Any]:
    """Return ids and names of rows that could be claimed, unlocked: for sources without a shard column."""
    identity = source.column("id")
    expires = source.column("claim_expires")
    due = or_(expires.is_(None), expires <= now_ms)
    if store_mark:
        due = or_(due, source.column("claim_token").startswith(store_mark, autoescape=True))
    chosen = select(identity.label("id"), source.column("name").label("name")).where(
        _has_status(source, status), due
    )
    if after is not None:
        chosen = chosen.where(identity > after)
    return chosen.order_by(identity).limit(limit)


def lock_ids(source: SourceTable, dialect: Dialect, *, ids: Sequence[Any], status: str) -> Select[Any]:
    """Return and lock the rows of `ids` that still have the status."""
    identity = source.column("id")
    chosen = select(identity).where(identity.in_(ids), _has_status(source, status)).order_by(identity)
    return dialect.locking(_read_columns(source), source.table, chosen, len(ids))


def take(source: SourceTable, *, ids: Sequence[Any], token: str, expires_ms: int) -> Update:
    """Write the claim into rows that this transaction has locked."""
    return (
        update(source.table)
        .where(source.column("id").in_(ids))
        .values(
            {
                source.column("status"): source.config.status_values.claimed,
                source.column("claim_token"): token,
                source.column("claim_expires"): expires_ms,
            }
        )
    )


def renew(source: SourceTable, *, ids: Sequence[Any], token: str, expires_ms: int) -> Update:
    """Put off the end of claims that are still the token's."""
    return (
        update(source.table)
        .where(source.column("id").in_(ids), *_held(source, token))
        .values({source.column("claim_expires"): expires_ms})
    )


def mark(source: SourceTable) -> Update:
    """Write name, hash, shard and status into one row; parameters `row_id`, `name`, `hash`, `shard`."""
    values: dict[Any, Any] = {
        source.column("status"): source.config.status_values.marked,
        source.column("name"): bindparam("new_name"),
        source.column("hash"): bindparam("new_hash"),
        source.column("claim_token"): None,
        source.column("claim_expires"): None,
        source.column("attempts"): 0,
        source.column("error"): None,
    }
    if source.has("shard"):
        values[source.column("shard")] = bindparam("new_shard")
    return update(source.table).where(source.column("id") == bindparam("row_id")).values(values)


def fail_eligible(source: SourceTable) -> Update:
    """Turn a row that is not claimed to `failed`; parameters `row_id`, `reason`."""
    return (
        update(source.table)
        .where(source.column("id") == bindparam("row_id"))
        .values(
            {
                source.column("status"): source.config.status_values.failed,
                source.column("error"): bindparam("reason"),
            }
        )
    )


def pack(source: SourceTable, *, token: str) -> Update:
    """Turn one claimed row to `packed`, if it still points at what was packed.

    Parameters `row_id`, `row_name`, `row_key`, `row_bucket` (where there is a column), `new_container`,
    `new_checksum`.
    """
    conditions = [
        source.column("id") == bindparam("row_id"),
        source.column("name") == bindparam("row_name"),
        source.column("key") == bindparam("row_key"),
        *_held(source, token),
    ]
    if source.has("bucket"):
        conditions.append(source.column("bucket") == bindparam("row_bucket"))
    return (
        update(source.table)
        .where(*conditions)
        .values(
            {
                source.column("status"): source.config.status_values.packed,
                source.column("container"): bindparam("new_container"),
                source.column("checksum"): bindparam("new_checksum"),
                source.column("claim_token"): None,
                source.column("claim_expires"): None,
                source.column("error"): None,
            }
        )
    )


def give_back(source: SourceTable, *, token: str) -> Update:
    """Return one claimed row to `marked` or turn it to `failed`.

    Parameters `row_id`, `new_status`, `new_attempts`, `reason`, `not_before`.
    """
    return (
        update(source.table)
        .where(source.column("id") == bindparam("row_id"), *_held(source, token))
        .values(
            {
                source.column("status"): bindparam("new_status"),
                source.column("attempts"): bindparam("new_attempts"),
                source.column("error"): bindparam("reason"),
                source.column("claim_token"): None,
                source.column("claim_expires"): bindparam("not_before"),
            }
        )
    )


def reshard(source: SourceTable) -> Update:
    """Correct the shard of a marked row; parameters `row_id`, `new_shard`, `new_hash`."""
    return (
        update(source.table)
        .where(source.column("id") == bindparam("row_id"))
        .values(
            {
                source.column("shard"): bindparam("new_shard"),
                source.column("hash"): bindparam("new_hash"),
            }
        )
    )


def by_id(source: SourceTable, ids: Sequence[Any]) -> Select[Any]:
    """Return rows as they are now, with status, token, container."""
    return select(
        *_read_columns(source),
        source.column("status").label("status"),
        source.column("container").label("container"),
    ).where(source.column("id").in_(ids))


def counts(source: SourceTable) -> Select[Any]:
    """Count rows by status; this reads the whole index or table."""
    status = source.column("status")
    return select(status.label("status"), func.count().label("rows")).group_by(status)


def failed(source: SourceTable, *, limit: int, after: Any, reasons: Iterable[str]) -> Select[Any]:
    """Return dead letters in the order of their ids, all or those of some reasons."""
    identity = source.column("id")
    chosen = select(
        identity.label("id"),
        source.column("name").label("name"),
        source.column("attempts").label("attempts"),
        source.column("error").label("error"),
    ).where(_has_status(source, "failed"))
    starts = [source.column("error").startswith(reason, autoescape=True) for reason in reasons]
    if starts:
        chosen = chosen.where(or_(*starts))
    if after is not None:
        chosen = chosen.where(identity > after)
    return chosen.order_by(identity).limit(limit)


def revive(source: SourceTable) -> Update:
    """Return a dead letter to life; parameters `row_id`, `new_status`, `new_name`."""
    return (
        update(source.table)
        .where(source.column("id") == bindparam("row_id"), _has_status(source, "failed"))
        .values(
            {
                source.column("status"): bindparam("new_status"),
                source.column("name"): bindparam("new_name"),
                source.column("attempts"): 0,
                source.column("error"): None,
                source.column("claim_token"): None,
                source.column("claim_expires"): None,
            }
        )
    )


def _read_columns(source: SourceTable) -> list[ColumnElement[Any]]:
    columns: list[ColumnElement[Any]] = [
        source.column(role).label(role)
        for role in ("id", "name", "bucket", "key", "etag", "size", "content_type", "attempts", "claim_token")
        if source.has(role)
    ]
    if source.has("shard"):
        columns.append(source.column("shard").label("shard"))
    for place, column in enumerate(source.config.columns.metadata.values()):
        columns.append(source.table.c[column].label(f"metadata_{place}"))
    return columns


def _has_status(source: SourceTable, which: str) -> ColumnElement[bool]:
    value = getattr(source.config.status_values, which)
    column = source.column("status")
    return column.is_(None) if value is None else column == value


def _held(source: SourceTable, token: str) -> list[ColumnElement[bool]]:
    return [_has_status(source, "claimed"), source.column("claim_token") == token]


def _older(source: SourceTable, cutoff_ms: int) -> ColumnElement[bool]:
    """Compare the time of the row with a moment; a column without a zone is UTC."""
    column = source.column("created_at")
    cutoff: Any = moment(cutoff_ms)
    if isinstance(column.type, Integer | Numeric):
        cutoff = cutoff_ms
    elif isinstance(column.type, Date):
        cutoff = cutoff.date()
    elif not getattr(column.type, "timezone", False):
        cutoff = cutoff.replace(tzinfo=None)
    older: ColumnElement[bool] = operator.le(column, cutoff)
    return older


def _condition(source: SourceTable, one: Filter) -> ColumnElement[bool]:
    column: ColumnElement[Any] = source.table.c[one.column]
    match one:
        case CompareFilter():
            compared: ColumnElement[bool] = getattr(operator, one.op)(column, one.value)
            return or_(column.is_(None), compared) if one.op == "ne" else compared
        case MemberFilter(op="in"):
            return column.in_(one.values)
        case MemberFilter():
            return or_(column.is_(None), column.not_in(one.values))
        case PrefixFilter():
            return column.startswith(one.value, autoescape=True)
        case NullFilter(op="is_null"):
            return column.is_(None)
        case NullFilter():
            return column.is_not(None)
        case _:
            assert_never(one)
