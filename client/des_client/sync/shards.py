# Made by scripts/make_sync_client.py from des_client/aio/shards.py: change that one.
"""The shards, and the server itself."""

import random
import time
import uuid
from collections.abc import Generator, Iterable
from datetime import timedelta

from des_client import calls, convert
from des_client.errors import DesClientError
from des_client.items import ShardUpdate
from des_client.retry import Attempts
from des_client.sync.listing import Listing
from des_client.types import SealResult, ServerInfo, ShardInfo


class Shards(Listing):
    """Calls for operators."""

    def shard_status(
        self, shard_ids: Iterable[int] | None = None, *, timeout_s: float | None = None
    ) -> "list[ShardInfo]":
        """Return the state of some shards, or of all, by shard id."""
        pages = calls.ShardPages(shard_ids)
        while (request := pages.request()) is not None:
            page = self._call(
                lambda channel: channel.shards.ShardStatus, request, calls.timeout(timeout_s, self._timeout_s)
            )
            pages.accept(page)
        return pages.shards

    def watch_shards(
        self,
        shard_ids: Iterable[int] = (),
        *,
        start_revision: int = 0,
        min_interval: timedelta | None = None,
        timeout_s: float | None = None,
    ) -> Generator[ShardUpdate, None, None]:
        """Follow the shards for as long as the caller iterates: first a snapshot, then changes.

        A lost connection is begun again from the last revision seen; where the server has forgotten that,
        a new snapshot comes.

        Args:
            shard_ids: which; none for all.
            start_revision: the revision of an update, to go on after it without a snapshot.
            min_interval: least time between two updates.
            timeout_s: longest silence, the server's heartbeats included; None for 90 s.

        Raises:
            DesClientError: the server stays away.
        """
        silence_s = calls.timeout(timeout_s, calls.WATCH_SILENCE_S)
        attempts = Attempts(self._retry, random.random)
        heard_at = time.monotonic()
        revision = start_revision
        while True:
            streams = self._streams(calls.WATCH_AHEAD)
            try:
                request = calls.watch_request(shard_ids, revision, min_interval)
                streams.read(self._channel().shards.WatchShardStatus, request, self._metadata)
                while True:
                    event = streams.next(None, silence_s)
                    if event is None or event.message is None:
                        break
                    attempts.progressed()
                    self._reached = True
                    heard_at = time.monotonic()
                    update = convert.shard_update(event.message)
                    revision = update.revision or revision
                    if update.shards or update.snapshot:
                        yield update
            finally:
                streams.close()
            error: DesClientError
            if event is None:
                error = calls.silent_watch(silence_s)
            elif event.error is None:
                error = calls.ended_watch()
            else:
                error = event.error
                if error.reason == "WATCH_REVISION_COMPACTED" and revision:
                    # From the beginning: a snapshot brings what was missed.
                    revision = 0
                    attempts.progressed()  # a server answers
                    error = calls.compacted_watch(error)
            # Time for one silence and as much again to find the server.
            self._wait_or_raise(attempts, error, heard_at + 2 * silence_s - time.monotonic())

    def seal_shard(
        self, shard_id: int, *, request_id: str | None = None, timeout_s: float | None = None
    ) -> SealResult:
        """Seal what the shard holds open now; returns when its containers are recorded."""
        request_id = request_id or str(uuid.uuid4())
        answer = self._call(
            lambda channel: channel.shards.SealShard,
            calls.seal_request(shard_id, request_id),
            calls.timeout(timeout_s, self._timeout_s),
            request_id,
        )
        return convert.seal_result(answer)

    def server_info(self, *, refresh: bool = False, timeout_s: float | None = None) -> ServerInfo:
        """Return the server's version, features and limits; asked once per client unless `refresh`."""
        if self._server_info is None or refresh:
            return self._ask_server_info(calls.timeout(timeout_s, self._timeout_s))
        return self._server_info
