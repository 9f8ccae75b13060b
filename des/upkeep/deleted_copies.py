"""Brings to the object store what tombstones have no copy there: after it the bucket knows them all."""

from collections.abc import Callable, Iterable
from typing import Final

import structlog

from des.db.catalog import Catalog
from des.db.rows import Tombstone
from des.errors import CorruptError
from des.format.name_key import hash_of, name_digest
from des.packer.deleted_names import NAMES_MAX, read_deleted, write_deleted
from des.storage.object_store import ObjectInfo, ObjectStore
from des.upkeep.object_keys import ObjectKind, parse_key

_log = structlog.get_logger(__name__)

PAGE: Final = 1000


async def copy_missing(
    catalog: Catalog,
    store: ObjectStore,
    objects: Iterable[ObjectInfo],
    *,
    prefix: str,
    make_id: Callable[[], str],
) -> int:
    """Write copies of the tombstones that no copy among `objects` has, and return how many there were.

    Nodes write copies of what they delete; this is for those of nodes that were lost before they had, and of
    versions that wrote none. Costs a request for each copy that is there, and 60 bytes of memory for each
    name.

    Raises:
        DesError: catalog or store did not answer; what was written stays.
    """
    known: set[int] = set()
    for info in objects:
        if parse_key(info.key, prefix=prefix).kind is ObjectKind.DELETED_NAMES:
            try:
                known.update(_hash(one) for one in await read_deleted(store, info))
            except CorruptError as error:
                _log.warning("copy of tombstones is damaged", key=info.key, error=str(error))
    copied = 0
    missing: list[Tombstone] = []
    after = ""
    while page := await catalog.tombstones(after=after, limit=PAGE):
        after = page[-1].name
        missing += [one for one in page if _hash(one) not in known]
        if len(missing) > NAMES_MAX - PAGE:
            await write_deleted(store, missing, copy_id=make_id(), prefix=prefix)
            copied, missing = copied + len(missing), []
    if missing:
        await write_deleted(store, missing, copy_id=make_id(), prefix=prefix)
    return copied + len(missing)


def _hash(one: Tombstone) -> int:
    # 64 bits of SHA-256: of a billion names none is likely to be taken for another.
    return hash_of(name_digest(one.name.encode()))
