"""Upload of a container, with every ambiguous answer settled by looking (DESIGN §4, steps 3 and 4)."""

from des.errors import AlreadyExistsError, CorruptError, UnavailableError
from des.packer.container_builder import BuiltContainer
from des.packer.object_metadata import CONTAINER_ID, SHA256, encode_metadata
from des.storage.object_store import NoSuchObjectError, ObjectInfo, ObjectStore


class ForeignObjectError(CorruptError):
    """Under a container's unique key lies an object that is not that container."""


async def upload_container(store: ObjectStore, built: BuiltContainer) -> ObjectInfo:
    """Make sure that the container's object exists, whole, and return what the store says of it.

    A create that was refused or not answered is a question, not a failure: the object under the key
    is compared with ours.

    Raises:
        ForeignObjectError: the key holds something else; it is left alone.
        UnavailableError: not settled; safe to repeat.
    """
    row = built.row
    metadata = encode_metadata(row)
    try:
        await store.create(row.key, built.body, metadata=metadata)
    except AlreadyExistsError:
        return _ours(await store.head(row.key), built)
    except UnavailableError as error:
        try:
            return _ours(await store.head(row.key), built)
        except NoSuchObjectError:
            # Not final: the write may still land, which is harmless under a unique key.
            raise error from None
    return _ours(await store.head(row.key), built)


def _ours(info: ObjectInfo, built: BuiltContainer) -> ObjectInfo:
    row = built.row
    found = (info.size, info.metadata.get(CONTAINER_ID), info.metadata.get(SHA256))
    expected = (row.geometry.size, row.container_id, row.sha256)
    if found != expected:
        raise ForeignObjectError(
            f"object {info.key!r} has size, container id and SHA-256 {found}, expected {expected}",
            container_id=row.container_id,
        )
    return info
