"""The messages of an upload, for the thread of gRPC's that sends them."""

import threading
from collections.abc import Callable, Iterator

from des_proto.v1 import (
    file_service_pb2,
)


class Feed(Iterator[file_service_pb2.PutFileRequest]):
    """The messages of one upload attempt, pulled by a thread of gRPC's.

    After `stop` that thread gets nothing more, so that the next attempt has the source to itself.
    """

    def __init__(
        self, messages: Iterator[file_service_pb2.PutFileRequest], asked: Callable[[], None]
    ) -> None:
        self._messages = messages
        self._asked = asked
        self._lock = threading.Lock()
        self._stopped = False
        self.failure: BaseException | None = None
        """What the source raised, if it did."""
        self.cancel: Callable[[], object] | None = None
        """Ends the call; set once there is one."""

    def __next__(self) -> file_service_pb2.PutFileRequest:
        with self._lock:
            if self._stopped:
                raise StopIteration
            try:
                self._asked()
                return next(self._messages)
            except StopIteration:
                raise
            except BaseException as failed:  # noqa: BLE001  raised again by the thread that called put
                self.failure = failed
                self._stopped = True
                self.abort()
                raise StopIteration from None

    def abort(self) -> None:
        """End the call, if there is one yet."""
        if self.cancel is not None:
            self.cancel()

    def stop(self) -> None:
        """Give out no more messages; returns when no read of the source is under way."""
        with self._lock:
            self._stopped = True
