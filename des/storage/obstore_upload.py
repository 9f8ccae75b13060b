"""One object written through obstore in parts: bounded memory, one winner, nothing visible before the end.

What fits one part is one conditional request. Longer ones go in parts to a key of their own below `.uploads`,
which no listing shows, and the whole is then copied inside the store under the condition that the real key is
free: multipart uploads of Google and Azure overwrite what is there.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from des.errors import AlreadyExistsError, DesError
from des.storage.object_store import (
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectInfo,
    ObjectStoreUnavailableError,
)
from des.storage.parted_upload import PartedUpload

if TYPE_CHECKING:
    from des.storage.obstore_backend import ObstoreBackend

STAGING: Final = ".uploads/"
"""Start of the keys of objects that are whole and not yet where they belong; no object's key starts so."""
PARTS_AT_ONCE: Final = 2
"""Of one upload on their way. With those that wait and fill, and copies, an upload holds about ten parts."""
COPY_WAIT_S: Final = 0.5
"""Between two looks whether a copy is whole."""


class _GivenUpError(Exception):
    """Makes obstore abort the parts."""


class ObstoreUpload(PartedUpload):
    """Parts go through a stream that obstore cuts anew and sends, `PARTS_AT_ONCE` of them at a time."""

    def __init__(self, store: "ObstoreBackend", key: str, metadata: Mapping[str, str]) -> None:
        super().__init__(key, metadata, token=store.new_token(), part_size=int(store.settings.part_bytes))
        self._store = store
        self._staged = f"{store.prefix}{STAGING}{key}/{self._token}"
        self._part_s = store.settings.deadline_s + (
            PARTS_AT_ONCE * self._part_size / store.settings.upload_bytes_per_s_min
        )
        """How long the parts under way may take."""
        self._pieces: asyncio.Queue[bytes | _GivenUpError | None] = asyncio.Queue(maxsize=1)
        self._sending: asyncio.Task[Any] | None = None
        store.under_way.add(self)

    async def finish(self) -> ObjectInfo:
        """Make the object visible and durable, whole.

        Raises:
            UploadOverError: it was finished, aborted, or failed.
            ObjectExistsError: the key was taken meanwhile; nothing was written.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
            DesError: a part was not taken.
        """
        self._demand_open()
        self._over = True
        if self._sending is None:
            return await self._store.put(self.key, b"".join(self._take_filled()), metadata=self._metadata)
        await self._send_filled()
        await self._hand_over(None)
        await self._store.call(self.key, self._sent, sent_bytes=(PARTS_AT_ONCE + 1) * self._part_size)
        info = await self._moved()
        await self._drop_staged()
        self._sending = None  # nothing is left that an abort would have to drop
        return info

    async def abort(self) -> None:
        """Drop what was written. Safe after any failure, and twice; a finished object stays."""
        self._over = True
        self._drop_filled()
        sending, self._sending = self._sending, None
        if sending is None:
            return
        if not sending.done():
            # Only an error of the stream makes obstore abort the parts; cancelled, it would leave them.
            while not self._pieces.empty():
                self._pieces.get_nowait()
            self._pieces.put_nowait(_GivenUpError())
            await asyncio.wait({sending}, timeout=self._store.settings.deadline_s)
            sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await self._drop_staged()

    async def _moved(self) -> ObjectInfo:
        """Copy the whole to its key under the condition that it is free, and settle what came of it."""
        import obstore  # noqa: PLC0415  optional dependency

        store = self._store
        try:
            if not store.conditional:
                await store.demand_free(self.key)
            await store.call(
                self.key,
                lambda: obstore.copy_async(
                    store.connections.writes, self._staged, store.prefix + self.key, overwrite=False
                ),
            )
        except (AlreadyExistsError, ObjectStoreUnavailableError, NoSuchObjectError) as error:
            return await self._settled(error)
        return await self._settled(
            ObjectStoreUnavailableError(f"object {self.key!r} is not there yet", key=self.key)
        )

    async def _settled(self, error: DesError) -> ObjectInfo:
        """Look until the copy is whole: Azure may still be moving the bytes when it answers."""
        store = self._store
        looks = max(1, round(store.settings.deadline_s / COPY_WAIT_S))
        for _ in range(looks):
            info = await store.settle(self.key, size=self._size, token=self._token, error=error)
            try:
                await store.get_range(self.key, info.size - 1, info.size, etag=info.etag)
            except (ObjectDamagedError, ObjectStoreUnavailableError):
                await store.clock.sleep(COPY_WAIT_S)
            else:
                return info
        raise ObjectStoreUnavailableError(
            f"the copy to {self.key!r} is there and cannot be read after {looks} looks", key=self.key
        )

    async def _drop_staged(self) -> None:
        self.is_under_way = False
        try:
            await self._store.remove(self._staged)
        except DesError:
            # `abort_stale_uploads` finds it later.
            return

    async def _send_filled(self) -> None:
        data = b"".join(self._take_filled())
        if self._sending is None:
            self.is_under_way = True
            self._sending = asyncio.ensure_future(self._send())
        await self._hand_over(data)

    async def _hand_over(self, piece: bytes | None) -> None:
        """Wait until the stream takes `piece`; raise what it failed with, should it never."""
        sending = self._sending
        assert sending is not None, "pieces are handed to a stream"
        putting = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait({putting, sending}, timeout=self._part_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            in_time = putting.done() or sending.done()
            putting.cancel()
        if not in_time:
            raise ObjectStoreUnavailableError(
                f"a part of {self.key!r} was not taken within {self._part_s:.0f} s", key=self.key
            )
        if sending.done() and (piece is not None or sending.exception() is not None):
            await self._store.call(self.key, self._sent)

    async def _sent(self) -> None:
        assert self._sending is not None, "a stream was begun"
        await asyncio.shield(self._sending)

    async def _send(self) -> None:
        import obstore  # noqa: PLC0415  optional dependency

        await obstore.put_async(
            self._store.connections.writes,
            self._staged,
            self._stream(),
            attributes=self._store.attributes(self._metadata, self._token),
            use_multipart=True,
            chunk_size=self._part_size,
            max_concurrency=PARTS_AT_ONCE,
        )

    async def _stream(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, _GivenUpError):
                raise piece
            yield piece
