# Made by scripts/make_sync_client.py from des_client/aio/batch.py: change that one.
"""Many files at a time: put, get, stat, delete, wait until stored."""

import random
import time
from collections.abc import Generator, Iterable

from des_proto.v1 import file_service_pb2

from des_client import calls
from des_client.items import FileOutcome, GetItem, GetOutcome, PutItem, PutOutcome
from des_client.name_calls import NameCalls
from des_client.read_many import ReadMany
from des_client.source import Data
from des_client.sync.many import Many, OnBatchProgress
from des_client.types import Durability
from des_client.write_items import Sizes, request_ids
from des_client.write_many import WriteMany


class Batch(Many):
    """Calls about many files. One that fails never fails the others."""

    def put_many(
        self,
        items: Iterable[Data | PutItem],
        *,
        prefix: str = "",
        durability: Durability | None = None,
        ordered: bool = True,
        timeout_s: float | None = None,
        on_progress: OnBatchProgress | None = None,
    ) -> Generator[PutOutcome, None, None]:
        """Store many files, hundreds per message, and give one outcome for each.

        Items are taken as there is room for them, so they may be endless: what is on its way takes about
        8 MiB per connection. A lost connection is begun again and only what was not acknowledged is sent
        again, under the same name or request id. Files over 1 MiB are put one by one, in between.

        >>> outcomes = [one for one in des.put_many([b"one", b"two"])]
        >>> [(one.index, one.unwrap().file.size_bytes) for one in outcomes]
        [(0, 3), (1, 3)]

        Args:
            items: bytes, paths, binary files, or `PutItem`s where there is more to be said. The blocking
                client takes them on the caller's thread; the asyncio client takes asynchronous iterables
                on the loop and other iterators in a worker thread.
            prefix: first part of assigned names, where the item does not say.
            durability: least promise wanted; None for the server's default.
            ordered: outcomes in the order of the items; False for as they come.
            timeout_s: longest silence of the server, instead of the client's.
            on_progress: told after every message.

        Raises:
            DesClientError: the server stays away, or refuses the call as a whole.
        """
        timeout_s = calls.timeout(timeout_s, self._timeout_s)
        self._learn_limits(timeout_s)
        plan = WriteMany(
            prefix=prefix,
            durability=durability,
            sizes=Sizes.of(self._server_info.limits if self._server_info is not None else None),
            streams=len(self._channels),
            verify=self._verify,
            ordered=ordered,
            ids=request_ids(),
            retry=self._retry,
            random=random.random,
            patience_s=timeout_s,
        )
        for outcomes in self._write_many(plan, items, timeout_s, prefix, on_progress):
            yield from outcomes

    def get_many(
        self,
        items: Iterable[str | GetItem],
        *,
        ordered: bool = True,
        with_info: bool = False,
        timeout_s: float | None = None,
        on_progress: OnBatchProgress | None = None,
    ) -> Generator[GetOutcome, None, None]:
        """Read many files, hundreds per message, and give one outcome for each.

        Each file is held in memory whole: `get_to` is for large ones. A lost connection is begun again
        and only what did not come whole is asked for again.

        >>> names = [one.unwrap().file.name for one in des.put_many([b"one", b"two"])]
        >>> [one.unwrap() for one in des.get_many(names)]
        [b'one', b'two']

        Args:
            items: names, or `GetItem`s for ranges.
            ordered: outcomes in the order of the items; then up to 32 MiB wait here for an earlier one.
                False for as they come, which is faster when the files lie in many containers.
            with_info: give what is known about each file, too; costs time on very small files.
            timeout_s: longest silence of the server, instead of the client's.
            on_progress: told after every message.

        Raises:
            DesClientError: the server stays away, or refuses the call as a whole.
        """
        timeout_s = calls.timeout(timeout_s, self._timeout_s)
        self._learn_limits(timeout_s)
        plan = ReadMany(
            limits=self._server_info.limits if self._server_info is not None else None,
            verify=self._verify,
            ordered=ordered,
            with_info=with_info,
            retry=self._retry,
            random=random.random,
            patience_s=timeout_s,
        )
        for outcomes in self._read_many(plan, items, timeout_s, on_progress):
            yield from outcomes

    def stat_many(
        self, names: Iterable[str], *, timeout_s: float | None = None
    ) -> Generator[FileOutcome, None, None]:
        """Return what is known about many files, in order, one call for about a thousand.

        >>> [one.error is None for one in des.stat_many([name, "DES_20260115_(000000000000_00)"])]
        [True, False]
        """
        plan = self._name_calls(names, timeout_s)
        while (asked := plan.next()) is not None:
            answer = self._call(
                lambda channel: channel.files.BatchStatFiles,
                file_service_pb2.BatchStatFilesRequest(names=asked, view=calls.FULL),
                plan.timeout_s,
            )
            self._sleep(plan.accept(answer.results, time.monotonic()))
            yield from plan.drain()

    def delete_many(
        self, names: Iterable[str], *, allow_missing: bool = False, timeout_s: float | None = None
    ) -> Generator[FileOutcome, None, None]:
        """Delete many files, as `delete` does one; outcomes in order."""
        plan = self._name_calls(names, timeout_s, gone_is_done=True)
        while (asked := plan.next()) is not None:
            answer = self._call(
                lambda channel: channel.files.BatchDeleteFiles,
                file_service_pb2.BatchDeleteFilesRequest(names=asked, allow_missing=allow_missing),
                plan.timeout_s,
                repeated=plan.repeated,
            )
            self._sleep(plan.accept(answer.results, time.monotonic()))
            yield from plan.drain()

    def wait_stored(self, names: str | Iterable[str], *, timeout_s: float | None = None) -> list[FileOutcome]:
        """Wait until files are in the object store and recorded, so that they survive their node.

        Args:
            names: one name or many.
            timeout_s: how long to wait for each thousand of them, instead of the client's.

        Raises:
            DeadlineExceeded: they were not all stored in time. That is no loss: they are as durable as
                their write said.
        """
        plan = self._name_calls([names] if isinstance(names, str) else names, timeout_s)
        outcomes: list[FileOutcome] = []
        while (asked := plan.next()) is not None:
            answer = self._call(
                lambda channel: channel.files.WaitStored,
                file_service_pb2.WaitStoredRequest(names=asked),
                plan.timeout_s,
                road=self._road(asked[0]) if len(asked) == 1 else None,
            )
            self._sleep(plan.accept(answer.results, time.monotonic()))
            outcomes += plan.drain()
        return outcomes

    def _name_calls(
        self, names: Iterable[str], timeout_s: float | None, *, gone_is_done: bool = False
    ) -> NameCalls:
        timeout_s = calls.timeout(timeout_s, self._timeout_s)
        self._learn_limits(timeout_s)
        limits = self._server_info.limits if self._server_info is not None else None
        return NameCalls(
            names,
            limits=limits,
            timeout_s=timeout_s,
            retry=self._retry,
            random=random.random,
            gone_is_done=gone_is_done,
        )
