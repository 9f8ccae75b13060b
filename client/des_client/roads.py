"""Which connection each call takes: the one to the owner of its file's shard, or the next in turn.

No I/O in here. A client with one connection has none of this.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from des_proto.v1 import types_pb2

from des_client.errors import DeadlineExceeded, DesClientError, Unavailable
from des_client.owners import FOLLOW_KEY, Owners
from des_client.road import Road
from des_client.turns import Turns

_ASKING: Final = ((FOLLOW_KEY, "1"),)
_AWAY: Final = frozenset({"", "SHUTTING_DOWN"})
"""Reasons of UNAVAILABLE that speak of a server, not of what it was asked; none is a lost connection."""


class Roads:
    """Chooses among connections, and hears what became of the calls. Threads may share it."""

    def __init__(self, count: int, *, follow: bool, clock: Callable[[], float]) -> None:
        """Choose among `count`; `follow` for the owners of shards, too."""
        self._turns = Turns(count, clock)
        self._owners = Owners(count) if follow else None

    def choose(self, road: Road) -> int:
        """Return the connection for the next attempt."""
        road.at = self._turns.next(() if self._owners is None else self._owners.leads(road))
        return road.at

    def headers(self, road: Road) -> tuple[tuple[str, str], ...]:
        """Return what an attempt sends beside its metadata."""
        return _ASKING if self._owners is not None and self._owners.asks(road.at) else ()

    def worked(self, road: Road) -> None:
        """Hear that a server answered, where no more is to be learned from it."""
        self._turns.worked(road.at)

    def answered(self, road: Road, trailers: Iterable[Any], file: types_pb2.FileInfo | None) -> None:
        """Hear of an answer; see `Owners.answered`."""
        self._turns.worked(road.at)
        if self._owners is not None:
            self._owners.answered(road, trailers, file)

    def failed(self, road: Road, error: DesClientError, trailers: Iterable[Any] | None = ()) -> None:
        """Hear of an attempt that brought no answer, or an error of the server's."""
        away = isinstance(error, Unavailable) and error.reason in _AWAY
        silent = away or (isinstance(error, DeadlineExceeded) and not error.reason)
        if away:
            self._turns.failed(road.at)
        elif not silent:
            self._turns.worked(road.at)
        if self._owners is not None:
            if not silent:
                self._owners.answered(road, trailers or (), None)
            self._owners.failed(road, silent=silent)
