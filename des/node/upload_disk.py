"""The disk of unfinished uploads, asked from the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

from des.errors import UnavailableError

P = ParamSpec("P")
T = TypeVar("T")


class UploadStorageError(UnavailableError):
    """The disk did not take or give the bytes of an upload."""


class UploadDisk:
    """Runs what blocks in threads, each call to its end."""

    def __init__(self, executor: Executor | None) -> None:
        """`executor` has the threads; None runs in place."""
        self._executor = executor

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread; a cancelled caller waits for its end too.

        Raises:
            UploadStorageError: the disk refused.
        """
        try:
            if self._executor is None:
                return call(*args, **kwargs)
            work = asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **kwargs))
            return await unbroken(work)
        except OSError as error:
            raise UploadStorageError(f"the disk refused bytes of an upload: {error}") from error


async def unbroken(work: "asyncio.Future[T]") -> T:
    """Wait until work is done even when the caller is cancelled: the file must not change under it."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
