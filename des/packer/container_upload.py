"""Upload of a container (DESIGN §4, steps 3 and 4)."""

from collections.abc import Mapping

from des.db.catalog import ContainerRow
from des.packer.container_builder import BuiltContainer
from des.packer.object_metadata import CONTAINER_ID, SHA256, encode_metadata
from des.packer.settled_create import head_of_ours, settled_create
from des.storage.object_store import NoSuchObjectError, ObjectInfo, ObjectStore


async def upload_container(store: ObjectStore, built: BuiltContainer) -> ObjectInfo:
    """Make sure that the container's object exists, whole, and return what the store says of it.

    Raises:
        ForeignObjectError: the key holds something else; it is left alone.
        UnavailableError: not settled; safe to repeat.
    """
    row = built.row
    identity = _identity(row)
    await settled_create(store, row.key, built.body, metadata=encode_metadata(row), identity=identity)
    return await head_of_ours(store, row.key, size=row.geometry.size, identity=identity)


async def find_uploaded(store: ObjectStore, announced: ContainerRow) -> ObjectInfo | None:
    """Return what the store says of an announced container's object; None when it is not there, or not yet.

    Raises:
        ForeignObjectError: the key holds something else; it is left alone.
        UnavailableError: the store did not answer.
    """
    try:
        return await head_of_ours(
            store, announced.key, size=announced.geometry.size, identity=_identity(announced)
        )
    except NoSuchObjectError:
        return None


def _identity(row: ContainerRow) -> Mapping[str, str]:
    return {CONTAINER_ID: row.container_id, SHA256: row.sha256}
