"""Rows of `des_containers` as the columns they have, and back."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Row

from des.db.catalog import ContainerGeometry, ContainerRow, ContainerState, ShardRun
from des.db.rows import OpenContainer
from des.db.rules import hash_range, open_container_id
from des.db.schema import HASH_BITS, OPEN

_SEPARATOR: Final = ","


def container_values(row: ContainerRow, *, created_at: int) -> Mapping[str, Any]:
    """Return the columns of a row that is announced."""
    hash_first, hash_stop = hash_range(row.run, bits=HASH_BITS)
    geometry = row.geometry
    return {
        "container_id": row.container_id,
        "day": row.day,
        "shard_id": row.run.first,
        "shard_span": row.run.span,
        "shard_bits": row.run.bits,
        "hash_first": hash_first,
        "hash_stop": hash_stop,
        "key": row.key,
        "state": ContainerState.UPLOADING.value,
        "epoch": row.epoch,
        "layout": row.layout,
        "sha256": row.sha256,
        "size": geometry.size,
        "data_start": geometry.data_start,
        "data_length": geometry.data_length,
        "meta_start": geometry.meta_start,
        "meta_length": geometry.meta_length,
        "index_start": geometry.index_start,
        "index_length": geometry.index_length,
        "file_count": geometry.file_count,
        "ext_table_start": geometry.ext_table_start,
        "pages_start": geometry.pages_start,
        "pages_length": geometry.pages_length,
        "page_count": geometry.page_count,
        "name_ms_first": row.name_ms_first,
        "name_ms_last": row.name_ms_last,
        "data_bytes": row.data_bytes,
        "node": row.node,
        "etag": "",
        "created_at": created_at,
        "stored_at": None,
        "replaces": _SEPARATOR.join(row.replaces),
        "name_first": row.name_first,
        "name_last": row.name_last,
    }


def open_values(row: OpenContainer, *, epoch: int, now: int) -> Mapping[str, Any]:
    """Return the columns of an open row, which has neither object nor key."""
    hash_first, hash_stop = hash_range(ShardRun(row.shard, 1, row.bits), bits=HASH_BITS)
    nothing = (
        "size",
        "data_start",
        "data_length",
        "meta_start",
        "meta_length",
        "index_start",
        "index_length",
    )
    return {
        "container_id": open_container_id(row),
        "day": row.day,
        "shard_id": row.shard,
        "shard_span": 1,
        "shard_bits": row.bits,
        "hash_first": hash_first,
        "hash_stop": hash_stop,
        "key": None,
        "state": OPEN,
        "epoch": epoch,
        "layout": "",
        "sha256": None,
        **dict.fromkeys(nothing, 0),
        "file_count": row.files,
        "name_ms_first": row.oldest_ms,
        "name_ms_last": row.oldest_ms,
        "data_bytes": row.data_bytes,
        "node": row.node,
        "etag": "",
        "created_at": now,
    }


def open_container_of(row: Row[Any]) -> OpenContainer:
    """Return what an open row says."""
    return OpenContainer(
        day=row.day,
        shard=row.shard_id,
        bits=row.shard_bits,
        files=row.file_count,
        data_bytes=row.data_bytes,
        oldest_ms=row.name_ms_first,
        node=row.node,
        epoch=row.epoch,
        told_ms=row.created_at,
    )


def container_of(row: Row[Any]) -> ContainerRow:
    """Return what any other row says."""
    return ContainerRow(
        container_id=row.container_id,
        day=row.day,
        run=ShardRun(first=row.shard_id, span=row.shard_span, bits=row.shard_bits),
        key=row.key,
        state=ContainerState(row.state),
        epoch=row.epoch,
        layout=row.layout,
        sha256=row.sha256,
        geometry=ContainerGeometry(
            size=row.size,
            data_start=row.data_start,
            data_length=row.data_length,
            meta_start=row.meta_start,
            meta_length=row.meta_length,
            index_start=row.index_start,
            index_length=row.index_length,
            file_count=row.file_count,
            ext_table_start=row.ext_table_start,
            pages_start=row.pages_start,
            pages_length=row.pages_length,
            page_count=row.page_count,
        ),
        name_ms_first=row.name_ms_first,
        name_ms_last=row.name_ms_last,
        data_bytes=row.data_bytes,
        node=row.node,
        etag=row.etag,
        created_ms=row.created_at,
        stored_ms=row.stored_at,
        replaces=tuple(row.replaces.split(_SEPARATOR)) if row.replaces else (),
        retired_ms=row.retired_at,
        abandoned_ms=row.abandoned_at,
        removed_ms=row.removed_at,
        name_first=row.name_first,
        name_last=row.name_last,
    )
