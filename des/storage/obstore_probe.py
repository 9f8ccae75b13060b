"""What a store behind obstore really honours, learnt by asking (as `s3_probe` does for S3).

The probe writes a few small objects under `des-probe/`, removes them, and costs about 30 requests.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from des.errors import DesError
from des.storage.object_store import (
    Capabilities,
    ObjectChangedError,
    ObjectExistsError,
    ObjectStoreUnavailableError,
)
from des.storage.s3_probe import NO_CONDITIONS, NO_RANGES, NO_READ_CONDITIONS, PROBES, STALE, WRITERS

if TYPE_CHECKING:
    from des.storage.obstore_backend import ObstoreBackend


async def probe_obstore(store: "ObstoreBackend") -> Capabilities:
    """Find out what the store honours; where it ignores conditions on creates, looks are taken instead.

    Raises:
        ObjectStoreUnavailableError: it did not answer.
        ObjectStoreRefusedError: wrong credentials, no permission to write, or no bucket.
    """
    await store.demand_bucket()
    probe = _Probe(store, f"{PROBES}{store.new_token()}")
    try:
        return await probe.run()
    finally:
        await probe.tidy()


class _Probe:
    """One run; every key it makes is its own."""

    def __init__(self, store: "ObstoreBackend", key: str) -> None:
        self._store = store
        self._key = key
        self._made: list[str] = []

    async def run(self) -> Capabilities:
        create = await self._one_winner() and await self._copy_is_conditional()
        self._store.conditional = create
        key = await self._create("object", b"0123456789")
        conditional_read = await self._read_is_conditional(key)
        ranges = await self._ranges(key)
        lacking = (
            (not create, NO_CONDITIONS),
            (True, _NO_CHECKSUMS),
            (not conditional_read, NO_READ_CONDITIONS),
            (True, _NO_DELETE_CONDITIONS),
            (not ranges, NO_RANGES),
            (True, _NO_COPY),
        )
        return Capabilities(
            kind=self._store.dialect.kind,
            conditional_create=create,
            checksums=False,
            server_side_copy=False,
            survives_node=True,
            conditional_read=conditional_read,
            conditional_delete=False,
            ranges=ranges,
            advice=tuple(sentence for lacks, sentence in lacking if lacks),
        )

    async def _one_winner(self) -> bool:
        """Whether of many creates at once exactly one wins, and its bytes are what stays."""

        async def create(writer: int) -> bool:
            try:
                await self._create("winner", bytes([writer]) * 100)
            except ObjectExistsError:
                return False
            return True

        won = await asyncio.gather(*(create(writer) for writer in range(WRITERS)))
        if won.count(True) != 1:
            return False
        kept = await self._store.get_range(f"{self._key}/winner", 0, 100)
        return kept == bytes([won.index(True)]) * 100

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

    async def _ranges(self, key: str) -> bool:
        try:
            first = await self._store.get_range(key, 0, 1)
            _, last = await self._store.get_tail(key, 3)
        except ObjectStoreUnavailableError:
            raise
        except DesError:
            return False
        return (first, last) == (b"0", b"789")

    def _name(self, name: str) -> str:
        key = f"{self._key}/{name}"
        self._made.append(key)
        return key

    async def _create(self, name: str, data: bytes) -> str:
        key = self._name(name)
        await self._store.put(key, data, metadata={})
        return key

    async def tidy(self) -> None:
        """Remove what was made, as far as the store lets us."""
        for key in dict.fromkeys(self._made):
            try:
                await self._store.delete(key)
            except DesError:
                return


_NO_CHECKSUMS: Final = (
    "no checksum travels with the bytes: each container is read back before it counts, and every byte is "
    "checked when it is read"
)
_NO_DELETE_CONDITIONS: Final = "deletes carry no condition: the object is looked at before it is removed"
_NO_COPY: Final = "ranges are not copied inside the store: compaction moves the bytes through the node"
