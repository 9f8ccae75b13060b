"""The catalog and the object store that settings name, for verbs that look after a store themselves."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from des.cli.exits import Exit, Failure
from des.clock import Clock
from des.config import Settings
from des.db.catalog import Catalog, ShardClaim, ShardRun
from des.errors import CorruptError, DesError
from des.node.doors import CATALOG, doors_of
from des.storage.object_store import ObjectStore

LOCK_TTL_S = 600.0
"""How long what a verb holds stays held if it dies."""


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """What is behind a node's settings."""

    settings: Settings
    catalog: Catalog
    store: ObjectStore
    clock: Clock
    claim: Callable[[ShardRun], ShardClaim | None]
    """Gives what a write for these shards has to show; None where a running node holds one of them."""


@asynccontextmanager
async def opened_store(
    settings: Settings, *, lock: bool = False, new: bool = False
) -> AsyncIterator[StoreAccess]:
    """Open catalog and object store; with `lock`, hold every shard that no node holds until the end.

    Raises:
        Failure: there is no such store (unless `new`), or it could not be opened or read.
    """
    path = settings.data_dir / CATALOG
    if not new and not _url_of(settings) and not path.exists():
        raise Failure(f"no store at {settings.data_dir}: {path} is not there", code=Exit.NOT_FOUND)
    doors = doors_of(settings)
    held: dict[int, int] = {}
    holder = str(uuid4())
    try:
        await doors.catalog.migrate()
        if (divided := (await doors.catalog.cluster_view()).sharding) is not None:
            settings = settings.model_copy(update={"shard_bits": divided.bits})
        if lock:
            shards = range(1 << settings.shard_bits)
            taken = await doors.catalog.acquire_shards(shards, holder=holder, ttl_s=LOCK_TTL_S)
            held = {one.shard: one.epoch for one in taken}
            if (await doors.catalog.cluster_view()).sharding != divided:
                await doors.catalog.release_shards(ShardClaim(holder, sorted(held.items())))
                raise Failure(
                    "the store is being divided into other shards, try again", code=Exit.UNAVAILABLE
                )

        def claim(run: ShardRun) -> ShardClaim | None:
            covered = run.shards(settings.shard_bits)
            if any(shard not in held for shard in covered):
                return None
            return ShardClaim(holder, [(shard, held[shard]) for shard in covered], settings.shard_bits)

        try:
            yield StoreAccess(settings, doors.catalog, doors.store, doors.clock, claim)
        finally:
            if held:
                await doors.catalog.release_shards(ShardClaim(holder, sorted(held.items())))
    except DesError as error:
        raise failure_of(error) from error
    finally:
        await doors.catalog.close()
        await doors.store.close()


def failure_of(error: DesError) -> Failure:
    """Return the failure that an error of the store is for the user."""
    code = Exit.FAILED
    if error.retryable:
        code = Exit.UNAVAILABLE
    elif isinstance(error, CorruptError):
        code = Exit.CORRUPT
    return Failure(str(error), code=code, reason=error.reason)


def _url_of(settings: Settings) -> str:
    return str(settings.catalog_url)
