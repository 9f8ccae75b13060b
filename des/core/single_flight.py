"""One load for all who ask for the same thing meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Joins callers to a load under way; one that gives up does not stop it for the others."""

    def __init__(self) -> None:
        self._loading: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the load of `key` gives, starting `load` where none is under way."""
        # Tasks of another event loop cannot be awaited here.
        flight = (asyncio.get_running_loop(), key)
        loading = self._loading.get(flight)
        # One that has just ended waits to be taken out: who joined it and asked again for something newer
        # would be answered by it at once, for ever, and nothing else of the loop would run.
        if loading is None or loading.done():
            loading = self._loading[flight] = asyncio.create_task(load())
            loading.add_done_callback(lambda done: self._loaded(flight, done))
        return await asyncio.shield(loading)

    def _loaded(self, flight: Hashable, done: asyncio.Task[T]) -> None:
        if self._loading.get(flight) is done:
            del self._loading[flight]
        if not done.cancelled():
            done.exception()  # read here, so that an error nobody waited for is no warning
