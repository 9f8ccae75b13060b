"""Many files out of few streams, their parts put together and checked. No I/O, no clock in here.

A driver opens a stream for every request that `request` gives, passes its messages to `accept` and its end
to `ended` or `broke`; what did not come whole by then is asked for again.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from des_proto.v1 import file_service_pb2, types_pb2

from des_client import checksum, convert
from des_client.errors import ChecksumMismatch, DesClientError, Internal, Unavailable, from_status
from des_client.items import BatchProgress, GetItem, GetOutcome
from des_client.retry import Attempts, RetryConfig
from des_client.types import Limits
from des_client.write_many import LINGER_S

REQUEST_ITEMS: Final = 1_000
"""Names in a request while nothing is known of the files' length."""
REQUEST_ITEMS_MIN: Final = 64
REQUEST_ITEMS_MAX: Final = 4_000
ANSWER_BYTES: Final = 8 << 20
"""How much a request asks for, going by the files so far: the more names it has, the more of them lie side by
side, and the more of it must come before the first file in order can be given out."""
REQUEST_BYTES: Final = 1 << 20
HELD_BYTES_MAX: Final = 32 << 20
"""How much may wait for an earlier file before that one is fetched on its own."""

_ITEM_BYTES: Final = 48
"""More than tags, lengths and range of one item take on the wire."""


class _Wanted:
    """A file that has not come whole yet."""

    __slots__ = (
        "attempts",
        "crc",
        "done",
        "file",
        "gives_up_at",
        "index",
        "item",
        "name",
        "pieces",
        "received",
        "start",
    )

    def __init__(self, index: int, name: str, item: GetItem | None) -> None:
        self.index = index
        self.name = name
        self.item = item
        self.attempts: Attempts | None = None
        self.gives_up_at = 0.0
        """When it is asked for no more; set by the first refusal."""
        self.pieces: list[bytes] = []
        self.received = 0
        self.start = 0
        """Offset of the first part."""
        self.crc = 0
        self.done = False
        """It was fetched on its own; parts that still come are dropped."""
        self.file: types_pb2.FileInfo | None = None

    def restart(self) -> None:
        """Forget the parts that came."""
        self.pieces = []
        self.received = self.crc = 0
        self.file = None


class ReadMany:
    """One call of `get_many`."""

    def __init__(
        self,
        *,
        limits: Limits | None,
        verify: bool,
        ordered: bool,
        with_info: bool,
        retry: RetryConfig,
        random: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._items_max = min(REQUEST_ITEMS_MAX, (limits and limits.max_batch_items) or REQUEST_ITEMS_MAX)
        told = limits and (limits.max_batch_message_bytes or limits.max_message_bytes)
        self._request_bytes = min(REQUEST_BYTES, told or REQUEST_BYTES)
        self._verify = verify
        self._ordered = ordered
        self._with_info = with_info
        self._retry = retry
        self._random = random
        self._patience_s = patience_s
        self._new: deque[_Wanted] = deque()
        self._new_bytes = 0
        self._new_since = 0.0
        self._again: list[tuple[float, _Wanted]] = []
        """What is to be asked for again, and when."""
        self._streams: dict[int, tuple[list[_Wanted], dict[int, _Wanted]]] = {}
        """By stream: what was asked for in the order of the request, and what is still to come."""
        self._next_in = 0
        self._next_out = 0
        self._early: dict[int, GetOutcome] = {}
        self._held_bytes = 0
        self._ready: list[GetOutcome] = []
        self._done_files = self._failed_files = self._done_bytes = 0

    # --- in --------------------------------------------------------------------------------

    def add(self, item: str | GetItem, now: float) -> None:
        """Take a name."""
        known = item if isinstance(item, GetItem) else None
        name = item if isinstance(item, str) else getattr(known, "name", None)
        wanted = _Wanted(self._next_in, name if isinstance(name, str) else repr(item), known)
        self._next_in += 1
        if not isinstance(name, str):
            self._finish(wanted, None, TypeError(f"item is {item!r}, expected a name or a GetItem"))
            return
        if not self._new:
            self._new_since = now
        self._new.append(wanted)
        self._new_bytes += _bound(name)

    @property
    def _request_items(self) -> int:
        """How many names go into the next request."""
        items = REQUEST_ITEMS
        if self._done_files:
            items = max(REQUEST_ITEMS_MIN, ANSWER_BYTES * self._done_files // (self._done_bytes or 1))
        return min(items, self._items_max)

    @property
    def full(self) -> bool:
        """Whether the names taken fill a request."""
        return len(self._new) >= self._request_items or self._new_bytes >= self._request_bytes

    @property
    def lingers_at(self) -> float:
        """When the names taken have waited long enough for more; 0 when there are none."""
        return self._new_since + LINGER_S if self._new else 0.0

    def lingers(self, now: float) -> bool:
        """Whether they have waited long enough."""
        return bool(self._new) and now >= self._new_since + LINGER_S

    def asks(self, now: float, *, flush: bool) -> bool:
        """Whether `request` has something to ask for."""
        return (bool(self._new) and (flush or self.full)) or any(at <= now for at, _ in self._again)

    # --- to the server -----------------------------------------------------------------------

    def request(self, stream: int, now: float) -> file_service_pb2.BatchReadFilesRequest | None:
        """Build the request of a new stream: what is due to be asked again first, else new names."""
        message = file_service_pb2.BatchReadFilesRequest(omit_file_info=not self._with_info)
        asked: list[_Wanted] = []
        size = 0
        items_max = self._request_items
        due = sorted((one for at, one in self._again if at <= now), key=lambda one: one.index)
        queue = deque(due) if due else self._new
        while queue and len(asked) < items_max:
            wanted = queue[0]
            bound = _bound(wanted.name)
            if asked and size + bound > self._request_bytes:
                break
            queue.popleft()
            if queue is self._new:
                self._new_bytes -= bound
            size += bound
            if self._ask(message, wanted):
                asked.append(wanted)
        if due:
            gone = {one.index for one in due} - {one.index for one in queue}
            self._again = [(at, one) for at, one in self._again if one.index not in gone]
        if not asked:
            return None
        self._streams[stream] = asked, dict(enumerate(asked))
        return message

    def _ask(self, message: file_service_pb2.BatchReadFilesRequest, wanted: _Wanted) -> bool:
        wire = message.items.add()
        try:
            wire.name = wanted.name
            item = wanted.item
            if item is not None and (item.offset or item.limit is not None):
                wire.range.offset = item.offset
                wire.range.limit = item.limit or 0
        except (UnicodeEncodeError, TypeError, ValueError) as failed:
            del message.items[-1]
            error = convert.not_unicode(failed) if isinstance(failed, UnicodeEncodeError) else failed
            self._finish(wanted, None, error)
            return False
        return True

    # --- from the server ---------------------------------------------------------------------

    def accept(self, stream: int, response: file_service_pb2.BatchReadFilesResponse, now: float) -> None:
        """Take parts of files.

        Raises:
            Internal: one breaks the protocol.
        """
        missing = self._streams[stream][1]
        verify = self._verify
        for part in response.parts:
            wanted = missing.get(part.index)
            if wanted is None:
                raise Internal(f"the server sent a part of item {part.index}, which is complete or unknown")
            if wanted.done:
                if part.last or part.HasField("status"):
                    del missing[part.index]
                continue
            if part.HasField("status") and part.status.code:
                del missing[part.index]
                self._failed(wanted, from_status(part.status), now)
                continue
            if part.HasField("file"):
                wanted.file = part.file
            chunk = part.chunk
            data = chunk.data
            if verify and chunk.HasField("crc32c"):
                crc = checksum.crc32c(data)
                if crc != chunk.crc32c:
                    del missing[part.index]
                    self._failed(wanted, _mismatch(wanted, chunk.crc32c, crc, "chunk"), now)
                    continue
            elif verify and data:
                crc = checksum.crc32c(data)
            else:
                crc = 0
            if part.last and not wanted.received:
                # The usual case: a small file in one part.
                del missing[part.index]
                wanted.crc = crc
                self._whole(wanted, data, now)
                continue
            if not wanted.received:
                wanted.start = part.offset
            elif part.offset != wanted.start + wanted.received:
                raise Internal(
                    f"{wanted.name!r}: a part starts at {part.offset}, "
                    f"expected {wanted.start + wanted.received}"
                )
            wanted.crc = checksum.extend(wanted.crc, data) if wanted.received else crc
            wanted.pieces.append(data)
            wanted.received += len(data)
            if part.last:
                del missing[part.index]
                self._whole(wanted, b"".join(wanted.pieces), now)

    def _whole(self, wanted: _Wanted, data: bytes, now: float) -> None:
        file = wanted.file
        if self._verify and file is not None and file.checksums.HasField("crc32c"):
            whole = wanted.item is None or (not wanted.item.offset and wanted.item.limit is None)
            if whole and (wanted.crc != file.checksums.crc32c or len(data) != file.size_bytes):
                self._failed(wanted, _mismatch(wanted, file.checksums.crc32c, wanted.crc, "file"), now)
                return
        self._finish(wanted, data, None)

    def _failed(self, wanted: _Wanted, error: DesClientError, now: float) -> None:
        if wanted.attempts is None:
            wanted.attempts = Attempts(self._retry, self._random)
            wanted.gives_up_at = now + self._patience_s
        wait_s = wanted.attempts.wait_s(error, wanted.gives_up_at - now)
        if wait_s is None:
            self._finish(wanted, None, error)
        else:
            wanted.restart()
            self._again.append((now + wait_s, wanted))

    def ended(self, stream: int, error: DesClientError | None) -> DesClientError | None:
        """Note the end of a stream; return an error if it owes files, and `broke` is to be called."""
        asked, missing = self._streams[stream]
        owed = [one for one in missing.values() if not one.done]
        if owed:
            return error or Unavailable(f"the stream ended with {len(owed)} of {len(asked)} files missing")
        del self._streams[stream]
        return None

    def broke(self, stream: int, at: float) -> bool:
        """Ask again, at `at`, for what a lost stream still owed; return whether it had brought anything."""
        asked, missing = self._streams.pop(stream)
        for wanted in missing.values():
            if not wanted.done:
                wanted.restart()
                self._again.append((at, wanted))
        return len(missing) < len(asked)

    # --- out ---------------------------------------------------------------------------------

    def _finish(self, wanted: _Wanted, data: bytes | None, error: Exception | None) -> None:
        if error is None and data is not None:
            self._done_files += 1
            self._done_bytes += len(data)
        else:
            self._failed_files += 1
        outcome = GetOutcome(
            wanted.index,
            wanted.name,
            None if wanted.item is None else wanted.item.key,
            data,
            None if wanted.file is None or data is None else convert.file_info(wanted.file),
            error,
        )
        if not self._ordered:
            self._next_out += 1
            self._ready.append(outcome)
        elif wanted.index == self._next_out:
            self._emit(outcome)
        elif wanted.index > self._next_out:
            self._early[wanted.index] = outcome
            self._held_bytes += len(data or b"")

    def _emit(self, outcome: GetOutcome) -> None:
        self._ready.append(outcome)
        self._next_out += 1
        while self._early and (early := self._early.pop(self._next_out, None)) is not None:
            self._held_bytes -= len(early.data or b"")
            self._ready.append(early)
            self._next_out += 1

    def head(self) -> GetItem | None:
        """Return the file that everything waits for, once too much does; `fetched` takes what it came to."""
        if self._held_bytes <= HELD_BYTES_MAX or (found := self._head()) is None:
            return None
        return found[1].item or GetItem(found[1].name)

    def fetched(self, data: bytes | None, error: Exception | None) -> None:
        """Take the file that `head` named."""
        found = self._head()
        if found is not None:
            found[1].restart()
            found[1].done = True
            self._finish(found[1], data, error)

    def _head(self) -> tuple[int, _Wanted] | None:
        for stream, (_, missing) in self._streams.items():
            for wanted in missing.values():
                if wanted.index == self._next_out and not wanted.done:
                    return stream, wanted
                if wanted.index > self._next_out and not wanted.attempts:
                    break
        return None

    def next_streams(self) -> list[int] | None:
        """Say which streams to take a message from; None for any, an empty list for none at the moment.

        In order, only the one that holds the next file is read: the others are held back by their windows
        instead of filling this process.
        """
        if not self._ordered:
            return None
        if (found := self._head()) is not None:
            return [found[0]]
        return [] if self._held_bytes > HELD_BYTES_MAX else None

    @property
    def wakes_at(self) -> float:
        """When something is to be asked for again; 0 when nothing is."""
        return min((at for at, _ in self._again), default=0.0)

    @property
    def ready(self) -> bool:
        """Whether an outcome is due."""
        return bool(self._ready)

    @property
    def idle(self) -> bool:
        """Whether every name taken has its outcome."""
        return not (self._new or self._again or any(missing for _, missing in self._streams.values()))

    def drain(self) -> list[GetOutcome]:
        """Return the outcomes that are due."""
        ready, self._ready = self._ready, []
        return ready

    @property
    def progress(self) -> BatchProgress:
        """Count what is done."""
        return BatchProgress(self._done_files, self._failed_files, self._done_bytes)


def _bound(name: str) -> int:
    # UTF-8 takes at most four bytes for a character.
    return _ITEM_BYTES + (len(name) if name.isascii() else 4 * len(name))


def _mismatch(wanted: _Wanted, expected: int, actual: int, scope: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{wanted.name!r}: CRC32C of the {scope} is {actual:08x}, expected {expected:08x}",
        metadata={"expected": str(expected), "actual": str(actual), "scope": scope},
    )
