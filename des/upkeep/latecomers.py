"""Objects that were made between a listing and the reading of the rows that name them."""

from collections.abc import Iterable
from typing import Final

from des.storage.object_store import NoSuchObjectError, ObjectInfo, ObjectStore

LOOKED_FOR_MAX: Final = 1000
"""One request each. Where more are missing, the listing was not whole or is of another bucket."""


async def add_latecomers(store: ObjectStore, objects: dict[str, ObjectInfo], named: Iterable[str]) -> None:
    """Add to a listing the objects that rows name and that are there now.

    A container may be uploaded and recorded, and a log segment shipped, while the listing runs.

    Raises:
        UnavailableError: the store did not answer; nothing is known about the rest.
    """
    missing = [key for key in named if key not in objects]
    for key in missing[:LOOKED_FOR_MAX]:
        try:
            objects[key] = await store.head(key)
        except NoSuchObjectError:
            continue
