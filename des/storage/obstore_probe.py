"""What a store behind obstore honours; the probe of buckets with obstore's own words."""

from typing import TYPE_CHECKING

from des.storage.bucket_probe import CONTENT, STALE, BucketProbe, Lacks
from des.storage.object_store import Capabilities, ObjectChangedError, ObjectExistsError

if TYPE_CHECKING:
    from des.storage.obstore_backend import ObstoreBackend


class ObstoreProbe(BucketProbe):
    """Where conditions on creates are ignored, looks are taken instead."""

    lacks = Lacks(
        checksums="no checksum travels with the bytes",
        conditional_delete="deletes carry no condition",
        copy="ranges",
    )

    def __init__(self, store: "ObstoreBackend") -> None:
        super().__init__(store)
        self._store = store

    async def _find_out(self) -> Capabilities:
        create = await self._one_winner() and await self._copy_is_conditional()
        self._store.conditional = create
        key = await self._create("object", CONTENT)
        conditional_read = await self._read_is_conditional(key)
        ranges = await self._ranges(key)
        return self._honours(
            self._store.dialect.kind,
            conditional_create=create,
            checksums=False,
            conditional_read=conditional_read,
            conditional_delete=False,
            ranges=ranges,
            server_side_copy=False,
        )

    async def _created(self, name: str, data: bytes) -> bool:
        try:
            await self._create(name, data)
        except ObjectExistsError:
            return False
        return True

    async def _copy_is_conditional(self) -> bool:
        """Whether the copy that ends a long upload gives way to an object that is there, and else arrives."""
        import obstore  # noqa: PLC0415  optional dependency

        store = self._store
        source = await self._create("source", b"late")

        async def copied(name: str) -> bool:
            key = self._name(name)
            try:
                await store.call(
                    key,
                    lambda: obstore.copy_async(
                        store.connections.writes, store.prefix + source, store.prefix + key, overwrite=False
                    ),
                )
            except ObjectExistsError:
                return False
            return await store.get_range(key, 0, 4) == b"late"

        return not await copied("winner") and await copied("copy")

    async def _read_is_conditional(self, key: str) -> bool:
        store = self._store
        try:
            await store.call(
                key,
                lambda: store.connections.reads.get_async(
                    store.prefix + key, options={"range": (0, 1), "if_match": STALE}
                ),
            )
        except ObjectChangedError:
            return True
        return False

    async def _create(self, name: str, data: bytes) -> str:
        key = self._name(name)
        await self._store.put(key, data, metadata={})
        return key
