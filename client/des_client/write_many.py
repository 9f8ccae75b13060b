"""Many files into few messages, and their acknowledgements back into order. No I/O, no clock in here.

A driver pulls items, sends what `take` gives on any stream, passes every answer to `accept` and a lost
stream to `broke`. What is not acknowledged is sent again with the same name or request id, so nothing is
ever written twice.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from des_proto.v1 import file_service_pb2

from des_client import checksum, convert
from des_client.errors import DesClientError, Internal, from_status
from des_client.items import BatchProgress, PutItem, PutOutcome
from des_client.retry import Attempts, RetryConfig
from des_client.source import MemorySource, Source
from des_client.types import Durability, PutResult
from des_client.write_items import ITEM_BYTES, Content, Sizes, text_bytes

WINDOW_MESSAGES: Final = 8
"""Messages on their way per stream, so that the server never waits for this client."""
ORDER_ITEMS: Final = 32_768
"""How many outcomes may wait for an earlier one before no more items are pulled."""
LINGER_S: Final = 0.05
"""A message that is not full leaves after this long."""


class Pending:
    """A file that is not acknowledged yet."""

    __slots__ = ("attempts", "bound", "data", "gives_up_at", "index", "item", "request_id")

    def __init__(self, index: int, item: PutItem | None, data: bytes, request_id: str, bound: int) -> None:
        self.index = index
        self.item = item
        """None for bare data."""
        self.data = data
        self.request_id = request_id
        self.bound = bound
        """Upper bound of its serialized length."""
        self.attempts: Attempts | None = None
        self.gives_up_at = 0.0
        """When it is tried no more; set by the first refusal."""


class WriteMany:
    """One call of `put_many`."""

    def __init__(
        self,
        *,
        prefix: str,
        durability: Durability | None,
        sizes: Sizes,
        streams: int,
        verify: bool,
        ordered: bool,
        ids: Iterator[str],
        retry: RetryConfig,
        random: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._prefix = prefix
        self.durability = durability
        """What the caller asked for."""
        self._durability = convert.wire_durability(durability)
        self._sizes = sizes
        self._verify = verify
        self._ordered = ordered
        self._ids = ids
        self._retry = retry
        self._random = random
        self._patience_s = patience_s
        self._window_bytes = WINDOW_MESSAGES * streams * sizes.message_bytes
        self._window_items = WINDOW_MESSAGES * streams * sizes.message_items
        self._unsent: deque[Pending] = deque()
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        self._sent: dict[int, dict[int, Pending]] = {}
        """By stream and number on it."""
        self._numbers: dict[int, int] = {}
        """By stream, the number of its next item: who was refused must not come again under the old one."""
        self._delayed: list[tuple[float, Pending]] = []
        self._refusal: DesClientError | None = None
        """Why the last of these was refused."""
        self._refusals_since = self._refused_at = -math.inf
        """Begin and end of the time in which files were refused and none was stored."""
        self._is_wait_told = True
        self._open_bytes = 0
        """Bounds of everything that is not acknowledged."""
        self._open_items = 0
        self._next_in = 0
        self._next_out = 0
        self._early: dict[int, PutOutcome] = {}
        self._ready: list[PutOutcome] = []
        self._done_files = self._failed_files = self._done_bytes = 0

    # --- in --------------------------------------------------------------------------------

    @property
    def small_bytes(self) -> int:
        """Longest content that fits a message with room for its facts."""
        return self._sizes.data_bytes

    @property
    def wants(self) -> bool:
        """Whether another item may be pulled."""
        return (
            self._open_bytes < self._window_bytes
            and self._open_items < self._window_items
            and self._next_in - self._next_out < ORDER_ITEMS
        )

    @property
    def full(self) -> bool:
        """Whether a whole message is waiting to be sent."""
        return self._unsent_bytes >= self._sizes.message_bytes or (
            len(self._unsent) >= self._sizes.message_items
        )

    def add(self, item: Any, content: Content, now: float) -> tuple[int, Source] | None:
        """Take an item; return the source of one that has to be put on its own, with its index."""
        index = self._next_in
        self._next_in += 1
        known = item if isinstance(item, PutItem) else None
        if isinstance(content, Exception):
            self.finish(index, known, None, content, 0)
            return None
        if not isinstance(content, bytes):
            return index, content
        bound = len(content) + ITEM_BYTES + len(self._prefix)
        if known is not None:
            try:
                bound += text_bytes(known)
            except (AttributeError, TypeError, ValueError) as failed:
                self.finish(index, known, None, failed, 0)
                return None
            if bound > self._sizes.message_bytes:
                return index, MemorySource(content)
            given = known.request_id if known.request_id is not None or known.name is None else ""
            request_id = next(self._ids) if given is None else given
        else:
            request_id = next(self._ids)
        if not self._unsent:
            self._unsent_since = now
        self._unsent.append(Pending(index, known, content, request_id, bound))
        self._unsent_bytes += bound
        self._open_bytes += bound
        self._open_items += 1
        return None

    def finish(
        self,
        index: int,
        item: PutItem | None,
        result: PutResult | None,
        error: Exception | None,
        size: int,
    ) -> None:
        """Note the outcome of an item."""
        if error is None:
            self._done_files += 1
            self._done_bytes += size
        else:
            self._failed_files += 1
        outcome = PutOutcome(index, None if item is None else item.key, result, error)
        if not self._ordered:
            self._next_out += 1
            self._ready.append(outcome)
        elif index == self._next_out:
            self._ready.append(outcome)
            self._next_out += 1
            while self._early and (early := self._early.pop(self._next_out, None)) is not None:
                self._ready.append(early)
                self._next_out += 1
        else:
            self._early[index] = outcome

    # --- to the server -----------------------------------------------------------------------

    def take(self, stream: int, now: float, *, flush: bool) -> file_service_pb2.BatchWriteFilesRequest | None:
        """Build the next message for a stream; None when there is not enough for one.

        Args:
            stream: who will send it.
            now: monotonic clock.
            flush: send a message that is not full.
        """
        if not self.sends(now, flush=flush):
            return None
        message = file_service_pb2.BatchWriteFilesRequest()
        sent = self._sent.setdefault(stream, {})
        number = self._numbers.get(stream, 0)
        size = 0
        unsent = self._unsent
        for _ in range(self._sizes.message_items):
            if not unsent or size + unsent[0].bound > self._sizes.message_bytes:
                break
            pending = unsent.popleft()
            size += pending.bound
            try:
                self._fill(message, pending, number)
            except (UnicodeEncodeError, TypeError, ValueError) as failed:
                del message.items[-1]
                self._close(pending)
                error = convert.not_unicode(failed) if isinstance(failed, UnicodeEncodeError) else failed
                self.finish(pending.index, pending.item, None, error, 0)
            else:
                sent[number] = pending
                number = (number + 1) & 0xFFFF_FFFF
        self._numbers[stream] = number
        self._unsent_bytes -= size
        self._unsent_since = now
        return message if message.items else None

    def _fill(self, message: file_service_pb2.BatchWriteFilesRequest, pending: Pending, number: int) -> None:
        # Field by field: keyword arguments cost four times as much.
        data, item = pending.data, pending.item
        wire = message.items.add()
        wire.index = number
        spec = wire.spec
        spec.size_bytes = len(data)
        spec.durability = self._durability
        if pending.request_id:
            spec.request_id = pending.request_id
        prefix = self._prefix
        if item is not None:
            if item.prefix is not None:
                prefix = item.prefix
            if item.name is not None:
                convert.check_name(item.name, item.prefix or "")
                spec.name, prefix = item.name, ""
            if item.content_type:
                spec.content_type = item.content_type
            if item.metadata:
                spec.metadata.update(item.metadata)
        if prefix:
            spec.prefix = prefix
        chunk = wire.chunk
        chunk.data = data
        if self._verify:
            crc = checksum.crc32c(data)
            chunk.crc32c = crc
            wire.checksums.crc32c = crc

    # --- from the server ---------------------------------------------------------------------

    def accept(self, stream: int, response: file_service_pb2.BatchWriteFilesResponse, now: float) -> None:
        """Take acknowledgements.

        Raises:
            Internal: one is for an item that was not sent on this stream, or says nothing.
        """
        sent = self._sent.get(stream, {})
        for result in response.results:
            pending = sent.pop(result.index, None)
            if pending is None:
                raise Internal(f"the server answered item {result.index}, which this stream did not carry")
            if result.HasField("status") and result.status.code:
                self._refused(pending, from_status(result.status, request_id=pending.request_id), now)
                continue
            answer = convert.write_result(result)
            self._refusals_since = -math.inf
            self._close(pending)
            self.finish(pending.index, pending.item, answer, None, len(pending.data))

    def _refused(self, pending: Pending, error: DesClientError, now: float) -> None:
        since = self._refusal_began(error, now)
        if pending.attempts is None:
            pending.attempts = Attempts(self._retry, self._random)
            pending.gives_up_at = since + self._patience_s
        wait_s = pending.attempts.wait_s(error, pending.gives_up_at - now)
        if wait_s is None:
            self._close(pending)
            self.finish(pending.index, pending.item, None, error, 0)
        else:
            if not self._delayed:
                self._is_wait_told = False
            self._refusal = error
            self._delayed.append((now + wait_s, pending))

    def _refusal_began(self, error: DesClientError, now: float) -> float:
        """Return since when such refusals have come: a server that stores nothing is waited for once in all.

        Each file waiting for itself would stop a long call for the whole patience at every window of files.
        """
        if not error.retryable:
            return now
        if now - self._refused_at > self._patience_s:
            self._refusals_since = -math.inf  # that was another time
        self._refused_at = now
        self._refusals_since = now if self._refusals_since == -math.inf else self._refusals_since
        return self._refusals_since

    def begins_to_wait(self) -> bool:
        """Return True once, when refused files begin to wait for their next attempt."""
        told, self._is_wait_told = self._is_wait_told, True
        return not told

    def broke(self, stream: int) -> bool:
        """Queue again, in front, whatever a lost stream did not acknowledge; return whether that is any."""
        lost = self._sent.pop(stream, {})
        self._numbers.pop(stream, None)
        for pending in sorted(lost.values(), key=_index, reverse=True):
            self._unsent.appendleft(pending)
            self._unsent_bytes += pending.bound
        return bool(lost)

    def _wake(self, now: float) -> None:
        still = []
        for at, pending in self._delayed:
            if at > now:
                still.append((at, pending))
            else:
                self._unsent.appendleft(pending)
                self._unsent_bytes += pending.bound
        self._delayed = still

    def _close(self, pending: Pending) -> None:
        self._open_bytes -= pending.bound
        self._open_items -= 1

    # --- out ---------------------------------------------------------------------------------

    @property
    def wakes_at(self) -> float:
        """When the next refused item is to be sent again; 0 when there is none."""
        return min((at for at, _ in self._delayed), default=0.0)

    @property
    def lingers_at(self) -> float:
        """When what is not sent yet has waited long enough for more; 0 when nothing waits."""
        return self._unsent_since + LINGER_S if self._unsent else 0.0

    def lingers(self, now: float) -> bool:
        """Whether it has waited long enough."""
        return bool(self._unsent) and now >= self._unsent_since + LINGER_S

    def sends(self, now: float, *, flush: bool) -> bool:
        """Whether `take` has a message to give."""
        if self._delayed:
            self._wake(now)
        return bool(self._unsent) and (flush or self.full)

    @property
    def owed(self) -> bool:
        """Whether any answer is owed."""
        return any(self._sent.values())

    @property
    def ready(self) -> bool:
        """Whether an outcome is due."""
        return bool(self._ready)

    def new_id(self) -> str:
        """Return a fresh request id."""
        return next(self._ids)

    @property
    def idle(self) -> bool:
        """Whether every item taken has its outcome."""
        return self._open_items == 0

    def load(self, stream: int) -> int:
        """Count the items a stream carries."""
        return len(self._sent.get(stream, ()))

    def drain(self) -> list[PutOutcome]:
        """Return the outcomes that are due."""
        ready, self._ready = self._ready, []
        return ready

    @property
    def progress(self) -> BatchProgress:
        """Count what is done."""
        waiting_for = self._refusal if self._delayed else None
        return BatchProgress(self._done_files, self._failed_files, self._done_bytes, waiting_for)


def _index(pending: Pending) -> int:
    return pending.index
