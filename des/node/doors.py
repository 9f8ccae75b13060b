"""The five doors of a node: clock, disk, object store, catalog, randomness (DESIGN §2)."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from des.clock import Clock, SystemClock
from des.config import Settings
from des.db import DesDbConnector, SqlCatalog
from des.db.catalog import Catalog, ContainerState
from des.errors import PreconditionError, UnavailableError
from des.monitoring.object_store_metrics import ObjectStoreMetrics
from des.storage import open_store
from des.storage.disk import Disk
from des.storage.identity import check_identity
from des.storage.identity_gate import IdentityGate
from des.storage.metered import MeteredObjectStore
from des.storage.object_store import ObjectStore
from des.storage.posix_disk import PosixDisk

_log = structlog.get_logger(__name__)

CATALOG: Final = "catalog.sqlite"
"""The default catalog, in the data folder."""


class NoFolderError(PreconditionError):
    """The data folder cannot be one: something else is there."""


@dataclass(frozen=True, slots=True)
class Doors:
    """The five doors to the world."""

    clock: Clock
    disk: Disk
    store: ObjectStore
    catalog: Catalog
    random_bytes: Callable[[int], bytes]
    store_metrics: ObjectStoreMetrics
    """What `store` counts."""


def doors_of(
    settings: Settings,
    *,
    clock: Clock | None = None,
    disk: Disk | None = None,
    store: ObjectStore | None = None,
    catalog: Catalog | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Doors:
    """Return the given doors, and the embedded default for each that is not given."""
    # First, and for its owner alone: whatever makes a folder in it would leave its parents to the umask.
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NoFolderError(
            f"data_dir is {str(settings.data_dir)!r}, where a file is in the way, expected a folder"
        ) from None
    metrics = ObjectStoreMetrics()
    url = settings.catalog_url or f"sqlite+aiosqlite:///{(settings.data_dir / CATALOG).resolve()}"
    ttl_s = settings.cluster.ttl_s if settings.cluster.enabled else None
    return Doors(
        clock=clock or SystemClock(),
        disk=disk or PosixDisk(settings.data_dir),
        store=MeteredObjectStore(store or open_store(settings.object_store, settings), metrics),
        store_metrics=metrics,
        catalog=catalog or SqlCatalog(DesDbConnector.configured(url, settings.catalog, ttl_s=ttl_s)),
        random_bytes=random_bytes,
    )


async def behind_gate(settings: Settings, doors: Doors, store_id: str) -> Doors:
    """Look at the object store; one that does not answer is written to only once it was looked at.

    Raises:
        WrongStoreError: the objects are another store's.
    """

    async def known_keys() -> list[str]:
        return [row.key for row in await doors.catalog.containers(state=ContainerState.STORED)]

    async def check(store: ObjectStore) -> None:
        await _look_at_store(store)
        await check_identity(store, store_id, object_prefix=settings.object_prefix, known_keys=known_keys)

    gate = IdentityGate(doors.store, check)
    try:
        await gate.pass_gate()
    except UnavailableError as error:
        _log.warning("object store does not answer; started on the log alone", error=str(error))
    return replace(doors, store=gate)


async def _look_at_store(store: ObjectStore) -> None:
    """Find out what the object store honours, and say so."""
    found = await store.capabilities()
    _log.info(
        "object store",
        kind=found.kind,
        conditional_create=found.conditional_create,
        conditional_read=found.conditional_read,
        conditional_delete=found.conditional_delete,
        ranges=found.ranges,
        checksums=found.checksums,
        server_side_copy=found.server_side_copy,
        survives_node=found.survives_node,
    )
    for sentence in found.advice:
        _log.warning("object store honours less", advice=sentence)
