"""One object written in parts from a stream: bounded memory, nothing visible before the end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping

from des.storage.object_store import Body, ObjectDamagedError, ObjectInfo, UploadOverError


class PartedUpload(ABC):
    """Parts are sent while the next one fills; after an error every call but `abort` raises."""

    def __init__(self, key: str, metadata: Mapping[str, str], *, token: str, part_size: int) -> None:
        """Begin with nothing; the store hears of it when a first part is full."""
        self.key = key
        self.is_under_way = False
        """Whether the store may have parts of it that are still wanted."""
        self._metadata = dict(metadata)
        self._token = token
        self._part_size = part_size
        self._buffer = bytearray()
        self._size = 0
        self._over = False

    async def write(self, data: bytes) -> None:
        """Append `data`; waits while as many parts are on their way as may be.

        Raises:
            UploadOverError: it was finished, aborted, or failed.
            ObjectTooLongError: too many parts.
            DesError: a part was not taken.
        """
        self._demand_open()
        try:
            view = memoryview(data)
            while view:
                # A full buffer is sent only when more comes: what fits one part needs no parts.
                if len(self._buffer) == self._part_size:
                    await self._send_buffer()
                taken = view[: self._part_size - len(self._buffer)]
                self._buffer += taken
                view = view[len(taken) :]
            self._size += len(data)
        except BaseException:
            self._over = True
            raise

    async def write_body(self, body: Body) -> None:
        """Append a whole body to an upload that has nothing yet.

        Raises:
            ObjectDamagedError: it ends before its own size.
            DesError: as `write`.
        """
        size = body.size()
        offset = 0
        while offset < size:
            data = await asyncio.to_thread(body.pread, min(self._part_size, size - offset), offset)
            if not data:
                raise ObjectDamagedError(f"body of {self.key!r} ends at {offset}, its size is {size}")
            await self.write(data)
            offset += len(data)

    def _demand_open(self) -> None:
        if self._over:
            raise UploadOverError(f"upload of {self.key!r} is over")

    @abstractmethod
    async def finish(self) -> ObjectInfo:
        """Make the object visible and durable, whole.

        Raises:
            UploadOverError: it was finished, aborted, or failed.
            ObjectExistsError: the key was taken meanwhile; nothing was written.
            ObjectStoreUnavailableError: outcome unknown; `head` tells.
            DesError: a part was not taken.
        """

    @abstractmethod
    async def abort(self) -> None:
        """Drop what was written. Safe after any failure, and twice; a finished object stays."""

    @abstractmethod
    async def _send_buffer(self) -> None:
        """Send what was gathered as a part, and gather anew."""
