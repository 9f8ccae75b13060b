"""Calls that take a list of names and answer one by one: stat, delete, wait. No I/O, no clock in here."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from des_proto.v1 import file_service_pb2

from des_client import calls, convert
from des_client.errors import DesClientError, Internal
from des_client.items import FileOutcome
from des_client.retry import Attempts, RetryConfig
from des_client.types import Limits

NAMES: Final = 1_000
"""Names in one call: its answer then stays well below a message's limit, with full metadata too."""


class NameCalls:
    """A long list of names in calls of bearable length.

    Names that a node cannot answer now are asked again.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        limits: Limits | None,
        timeout_s: float,
        retry: RetryConfig,
        random: Callable[[], float],
        gone_is_done: bool,
    ) -> None:
        self.timeout_s = timeout_s
        """What each call gets."""
        self._names = iter(names)
        self._count = min(NAMES, (limits and limits.max_batch_items) or NAMES)
        self._retry = retry
        self._random = random
        self._gone_is_done = gone_is_done
        self._next_index = 0
        self._asked: list[tuple[int, str]] = []
        self._again: list[tuple[int, str]] = []
        self._attempts = Attempts(retry, random)
        self._gives_up_at = 0.0
        self._lost: set[int] = set()
        """What an earlier call may have deleted though its answer was an error."""
        self._done: dict[int, FileOutcome] = {}
        self._ready: list[FileOutcome] = []

    def next(self) -> list[str] | None:
        """Return the names of the next call; None when there are no more."""
        if self._again:
            self._asked, self._again = self._again, []
        else:
            self._attempts = Attempts(self._retry, self._random)
            self._gives_up_at = 0.0
            names = list(itertools.islice(self._names, self._count))
            if not names:
                return None
            self._asked = list(enumerate(map(calls.text, names), self._next_index))
            self._next_index += len(names)
        return [name for _, name in self._asked]

    def repeated(self) -> None:
        """Note that the call is made once more: an attempt whose answer was lost may have done all of it."""
        self._lost.update(index for index, _ in self._asked)

    def accept(self, results: Sequence[file_service_pb2.StatResult], now: float) -> float:
        """Take the answers; return how long to wait before the next call.

        Raises:
            Internal: there are more or fewer than were asked for.
        """
        if len(results) != len(self._asked):
            raise Internal(f"the server answered {len(results)} names, expected {len(self._asked)}")
        worst: DesClientError | None = None
        refused: list[tuple[int, str, FileOutcome]] = []
        for (index, name), result in zip(self._asked, results, strict=True):
            outcome = convert.stat_result(index, name, result)
            error = outcome.error
            if isinstance(error, DesClientError) and error.retryable:
                refused.append((index, name, outcome))
                if worst is None or (error.retry_after_s or 0) > (worst.retry_after_s or 0):
                    worst = error
                continue
            if (
                self._gone_is_done
                and index in self._lost
                and isinstance(error, DesClientError)
                and error.reason == "FILE_DELETED"
            ):
                outcome = FileOutcome(index, name, None, None)
            self._done[index] = outcome
        if worst is not None and not self._gives_up_at:
            self._gives_up_at = now + self.timeout_s
        wait_s = None if worst is None else self._attempts.wait_s(worst, self._gives_up_at - now)
        if wait_s is None:
            for index, _, outcome in refused:
                self._done[index] = outcome
        else:
            self._again = [(index, name) for index, name, _ in refused]
            self._lost.update(index for index, _ in self._again)
        if not self._again:
            self._ready += [self._done[index] for index in sorted(self._done)]
            self._done.clear()
            self._lost.clear()
        return wait_s or 0.0

    def drain(self) -> list[FileOutcome]:
        """Return the outcomes that are due, in order."""
        ready, self._ready = self._ready, []
        return ready
