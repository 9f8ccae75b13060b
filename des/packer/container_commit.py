"""One container's way from records to the catalog: announced, uploaded, verified, committed, or abandoned.

Each step may be repeated by anyone: the same records give the same bytes under the same key, and what an
earlier attempt left is found and used (DESIGN §4).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from des.db.catalog import Catalog, ContainerRow, ContainerState, ShardClaim, ShardRun
from des.errors import CorruptError
from des.ingest.values import OpenFile, Sealing
from des.packer.container_builder import BuiltContainer, ContainerBuilder
from des.packer.container_check import check_built, check_readable, check_uploaded
from des.packer.container_upload import find_uploaded, upload_container
from des.packer.settled_create import ForeignObjectError
from des.storage.object_store import ObjectInfo, ObjectStore

_log = structlog.get_logger(__name__)

GIVEN_UP_MAX: Final = 3
"""Containers given up in a row before it is taken for a fault that another one would not mend."""


class ContainerCommit:
    """Makes containers the catalog's truth."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ObjectStore,
        builder: ContainerBuilder,
        claim: Callable[[ShardRun], ShardClaim],
    ) -> None:
        """Connect the parts; `claim` returns what a write for these shards has to show."""
        self._claim = claim
        self._catalog = catalog
        self._store = store
        self._builder = builder
        self._given_up = 0
        """Containers given up since the last one stored."""

    async def store(self, sealing: Sealing, files: list[OpenFile]) -> ContainerRow:
        """Return the row of the container of a logged seal, stored; or abandoned when it can never be.

        Raises:
            DesError: a step failed; the next attempt goes on from it.
        """
        row = await self._catalog.container(sealing.container_id)
        if row is None or row.state is ContainerState.UPLOADING:
            row = await self._settle(sealing, files, row, self._claim(run_of(sealing)))
        if row.state is not ContainerState.ABANDONED:
            self._given_up = 0
        return row

    async def _settle(
        self, sealing: Sealing, files: list[OpenFile], announced: ContainerRow | None, claim: ShardClaim
    ) -> ContainerRow:
        try:
            return await self._attempt(sealing, files, announced, claim)
        except ForeignObjectError as error:
            found = announced or await self._catalog.container(sealing.container_id)
            if found is None or self._given_up >= GIVEN_UP_MAX:
                raise
            return await self._abandon(found, claim, str(error))

    async def _attempt(
        self, sealing: Sealing, files: list[OpenFile], announced: ContainerRow | None, claim: ShardClaim
    ) -> ContainerRow:
        if announced is not None and (info := await find_uploaded(self._store, announced)) is not None:
            # An earlier attempt came this far: its bytes are as good as any built now.
            proof = check_readable(self._store, info, announced, files)
            return await self._commit(announced, claim, info, proof)
        async with self._builder.build(sealing, files, self._store) as built:
            row = announced or await self._catalog.announce_container(built.row, claim)
            if row.state is not ContainerState.UPLOADING:
                return row
            if row.sha256 != built.row.sha256:
                return await self._abandon(
                    row, claim, f"its records give SHA-256 {built.row.sha256}, announced was {row.sha256}"
                )
            # Beside what is left of the upload: nothing is committed that was not proven.
            proving = asyncio.ensure_future(asyncio.to_thread(check_built, built))
            try:
                info = await upload_container(self._store, built)
                return await self._commit(row, claim, info, self._proven(proving, info, built))
            finally:
                proving.cancel()
                await asyncio.gather(proving, return_exceptions=True)

    async def _proven(self, proving: Awaitable[None], info: ObjectInfo, built: BuiltContainer) -> None:
        await proving
        await check_uploaded(self._store, info, built)

    async def _commit(
        self, row: ContainerRow, claim: ShardClaim, info: ObjectInfo, proof: Awaitable[None]
    ) -> ContainerRow:
        """Commit what `proof`, when awaited, does not refute."""
        try:
            await proof
        except CorruptError as error:
            if self._given_up >= GIVEN_UP_MAX:
                raise
            return await self._abandon(row, claim, str(error))
        return await self._catalog.commit_container(row.container_id, etag=info.etag, claim=claim)

    async def _abandon(self, row: ContainerRow, claim: ShardClaim, cause: str) -> ContainerRow:
        """Make sure that nobody ever commits the container: only then may its files be sealed elsewhere.

        Its object, if there is one or one still lands, is left to garbage collection, which the row guides.
        """
        self._given_up += 1
        _log.error("container abandoned, its files are sealed anew", container=row.container_id, cause=cause)
        return await self._catalog.abandon_container(row.container_id, claim)


def run_of(sealing: Sealing) -> ShardRun:
    """Return the shards that a seal covers."""
    return ShardRun(sealing.first_shard, sealing.span, sealing.bits)
