"""Sends a call on to the node that owns its shard (ADR 0004, 0012).

A handler that finds a shard to be another node's raises `NotShardOwnerError` before it has answered
anything; the router then repeats the very same call there, with the caller's deadline, identity and
request id, and relays what comes back. A call travels one hop at most: the node it was sent to answers
it or refuses it. Handlers of a node that has its store for itself are left as they are.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import Message
from grpc.aio import AioRpcError, ServicerContext

from des.cluster import NotShardOwnerError, coming_home
from des.db.membership import NodeRow
from des.errors import UnavailableError
from des.node import ClusterSide
from des.node.resumable import NODE_MARK, UploadNotFoundError
from des.retrieval.owner_next import owner_is_next
from des_server.cluster.hints import OwnerHints
from des_server.cluster.node_keys import HOME_KEY
from des_server.cluster.onward import SERVED, Onward, OnwardCalls, has, was_forwarded
from des_server.cluster.owners import WAIT_FIRST_S, WAIT_MAX_S, is_away
from des_server.cluster.peers import Peers
from des_server.credits import ByteCredits
from des_server.interceptors.calls import (
    REQUEST_ID_KEY,
    Handler,
    Incoming,
    Outgoing,
    does_end_with_status,
    ends_with_status,
    serialized,
)
from des_server.status import PUSHBACK_KEY, STATUS_KEY

SENT_ON_WHOLE: Final = frozenset(
    {"PutFile", "GetFile", "SealShard", "StartUpload", "GetUploadStatus", "CancelUpload"}
)
"""Methods whose calls are about one file or shard, and go to its owner as they are."""
SMALL_BYTES: Final = 64 << 10

_OWN_TRAILERS: Final = frozenset({STATUS_KEY, PUSHBACK_KEY})
_Context: TypeAlias = ServicerContext[Any, Any]
_Request = TypeVar("_Request", bound=Message)

_log = structlog.get_logger(__name__)


class _OwnerAwayError(Exception):
    """The owner did not take the call, or is the owner no more."""


class Replayable(Incoming[_Request], Generic[_Request]):
    """A stream of requests whose first message can be read again, as long as it is the only one read."""

    __slots__ = ("_first", "_inner", "_reads")

    def __init__(self, inner: Incoming[_Request]) -> None:
        self._inner = inner
        self._first: _Request | None = None
        self._reads = 0
        """Messages given out since the start or the last `rewind`; -1 when no rewind is possible."""

    @property
    def count(self) -> int:  # type: ignore[override]  # the inner one counts
        """Messages received."""
        return self._inner.count

    async def read(self) -> _Request | None:
        """Return the next message, None after the last."""
        if self._reads == 0 and self._first is not None:
            self._reads = 1
            return self._first
        message = await self._inner.read()
        if message is None:
            return None
        if self._reads == 0:
            self._first, self._reads = message, 1
        else:
            self._first, self._reads = None, -1
        return message

    @property
    def first_bytes(self) -> int:
        """Length of the first message."""
        return 0 if self._first is None else self._first.ByteSize()

    def rewind(self) -> bool:
        """Begin anew at the first message, if no other was read; return whether that is so."""
        if self._reads < 0:
            return False
        self._reads = 0
        return True

    async def discard_rest(self) -> None:
        """See `Incoming.discard_rest`."""
        await self._inner.discard_rest()


class Router:
    """Decides, call by call, where it is served."""

    def __init__(
        self,
        cluster: ClusterSide,
        peers: Peers,
        calls: OnwardCalls,
        lending: ByteCredits,
        hints: OwnerHints,
        *,
        wait_s: float,
        message_bytes: int,
    ) -> None:
        """Route for one node.

        Args:
            cluster: what the node knows of the others.
            peers: channels to them.
            calls: what calls to them carry.
            lending: byte credits: what is sent on is in memory too.
            hints: tell callers where to ask.
            wait_s: how long a call waits for a shard that is between two owners.
            message_bytes: the longest message.
        """
        self._cluster = cluster
        self._peers = peers
        self._calls = calls
        self._lending = lending
        self._hints = hints
        self._wait_s = wait_s
        self._message_bytes = message_bytes
        self.forwarded = 0
        """Calls sent on so far."""
        self.forward_failures = 0
        """Calls that could not be sent on."""

    def wrap(self, handler: Handler, *, path: str, client_stream: bool, server_stream: bool) -> Handler:
        """Return one that sends on what `handler` refuses, for calls about one file or shard.

        Calls about many look after their items themselves (`RoutedNode`), and only learn which call they
        serve.
        """
        if path.rpartition("/")[2] not in SENT_ON_WHOLE:
            return self._serving(handler, client_stream=client_stream, server_stream=server_stream)
        if client_stream:

            async def put(requests: Incoming[Any], context: _Context) -> Any:
                self._begin(context)
                if has(context.invocation_metadata(), HOME_KEY):
                    with coming_home():
                        return await handler(requests, context)
                replayable = Replayable(requests)
                return await self._serve(
                    context,
                    lambda: handler(replayable, context),
                    lambda channel, call: self._stream_in(channel, path, replayable, call),
                    replayable.rewind,
                )

            return put
        if not server_stream:

            async def ask(request: Any, context: _Context) -> Any:
                self._begin(context)
                return await self._serve(
                    context,
                    lambda: handler(request, context),
                    lambda channel, call: self._unary(channel, path, request, call),
                    lambda: True,
                )

            return ask
        assert does_end_with_status(handler), f"{path} writes before it can be sent on"

        @ends_with_status
        async def get(request: Any, outgoing: Outgoing) -> Any:
            self._begin(outgoing.context)
            return await self._serve(
                outgoing.context,
                lambda: handler(request, outgoing),  # type: ignore[arg-type]  # what such a handler takes
                lambda channel, call: self._stream_out(channel, path, request, outgoing, call),
                lambda: outgoing.count == 0,
                is_read=True,
            )

        return cast("Handler", get)

    def _serving(self, handler: Handler, *, client_stream: bool, server_stream: bool) -> Handler:
        """Return a handler that notes which call the running task serves."""
        if server_stream and not client_stream and not inspect.iscoroutinefunction(handler):

            async def stream(request: Any, context: _Context) -> Any:
                self._begin(context)
                async with contextlib.aclosing(handler(request, context)) as responses:
                    async for response in responses:
                        yield response

            return stream

        async def serve(request: Any, context: _Context) -> Any:
            self._begin(context)
            return await handler(request, context)

        return serve

    def _begin(self, context: _Context) -> None:
        """Note which call the running task serves."""
        SERVED.set(context)
        self._hints.introduce(context)

    async def _serve(
        self,
        context: _Context,
        local: Callable[[], Any],
        remote: Callable[[grpc.aio.Channel, Onward], Any],
        repeatable: Callable[[], bool],
        *,
        is_read: bool = False,
    ) -> Any:
        """Serve a call here or there, waiting a little for a shard that nobody serves right now.

        A read is left to the owner first, and looked into here only where there is none that answers.
        """
        loop = asyncio.get_running_loop()
        remaining = context.time_remaining()
        ends_at = loop.time() + min(self._wait_s, remaining if remaining is not None else self._wait_s)
        wait_s = WAIT_FIRST_S
        hopped = was_forwarded(context)
        is_left = is_read and not hopped
        while True:
            try:
                if is_left:
                    with owner_is_next():
                        return await local()
                return await local()
            except NotShardOwnerError as error:
                refusal = error
            marked = NODE_MARK in refusal.details
            if not repeatable() or (self._cluster.owns(refusal.shard) and not marked and not is_left):
                raise refusal
            owner = await self._owner(refusal, look_again=hopped or wait_s > WAIT_FIRST_S)
            if owner is not None and not hopped:
                try:
                    return await self._send(context, owner, remote, shard=None if marked else refusal.shard)
                except _OwnerAwayError as error:
                    self.forward_failures += 1
                    _log.debug("owner is away", shard=refusal.shard, owner=owner.node, error=str(error))
                    if not repeatable():
                        raise refusal from error
            if is_left or (self._cluster.owns(refusal.shard) and not marked):
                is_left = False
                continue
            if hopped and not self._cluster.is_gaining(refusal.shard):
                raise refusal  # at once: whoever sent it here may know by now who owns the shard
            if loop.time() + wait_s > ends_at or self._cluster.is_resharded:
                raise refusal
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, WAIT_MAX_S)

    async def _owner(self, refusal: NotShardOwnerError, *, look_again: bool) -> NodeRow | None:
        """Return the other node that can serve what was refused; None for nobody, and for this one."""
        if mark := refusal.details.get(NODE_MARK):
            return await self._marked(mark)
        shard = refusal.shard
        if self._cluster.is_gaining(shard):
            await self._cluster.wait_ready(shard, WAIT_MAX_S)
            return None
        owner = self._cluster.owner(shard)
        if owner is None or look_again:
            try:
                await self._cluster.refresh()
            except UnavailableError as error:
                _log.info("the catalog does not say who owns a shard", shard=shard, error=str(error))
            owner = self._cluster.owner(shard)
        return None if owner is None or owner.node == self._cluster.node or not owner.address else owner

    async def _marked(self, mark: str) -> NodeRow | None:
        """Return the node that has an upload, whether it lives or not.

        Raises:
            UploadNotFoundError: no node's UUID begins so.
            CatalogUnavailableError: that is not known now.
        """
        if (node := self._cluster.marked(mark)) is None:
            await self._cluster.refresh()
            node = self._cluster.marked(mark)
        if node is None:
            raise UploadNotFoundError("no upload has this id")
        return node if node.address and node.node != self._cluster.node else None

    async def _send(
        self,
        context: _Context,
        owner: NodeRow,
        remote: Callable[[grpc.aio.Channel, Onward], Any],
        *,
        shard: int | None,
    ) -> Any:
        """Ask another node; where it was asked as the owner of a `shard`, the caller hears of that."""
        self.forwarded += 1
        call = self._calls.current()
        try:
            answer = await remote(self._peers.channel(owner.address), call)
        except AioRpcError as error:
            if is_away(error):
                raise _OwnerAwayError(f"{error.code().name}: {error.details()}") from error
            if shard is not None:
                self._hints.tell(shard, owner)
            trailers = (*(context.trailing_metadata() or ()), *_relayed(error.trailing_metadata()))
            await context.abort(error.code(), error.details() or "", trailers)
            raise
        if shard is not None:
            self._hints.tell(shard, owner)
        return answer

    async def _unary(self, channel: grpc.aio.Channel, path: str, request: Any, call: Onward) -> bytes:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        return await ask(serialized(request), metadata=call.metadata, timeout=call.timeout_s)

    async def _stream_in(
        self, channel: grpc.aio.Channel, path: str, requests: Replayable[Any], call: Onward
    ) -> bytes:
        # A small file in one message is in memory anyway; a stream may hold a message of any length.
        first_bytes = requests.first_bytes
        borrowed = await self._lending.borrow(
            first_bytes if first_bytes <= SMALL_BYTES else self._message_bytes
        )

        async def messages() -> AsyncIterator[bytes]:
            async for request in requests:
                yield serialized(request)

        put: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(path)
        sending = put(messages(), metadata=call.metadata, timeout=call.timeout_s)
        try:
            return await sending
        finally:
            sending.cancel()
            self._lending.give_back(borrowed)

    async def _stream_out(
        self, channel: grpc.aio.Channel, path: str, request: Any, outgoing: Outgoing, call: Onward
    ) -> bytes:
        get: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
        receiving = get(serialized(request), metadata=call.metadata, timeout=call.timeout_s)
        last: bytes | None = None
        try:
            async for message in receiving:
                if last is not None:
                    await outgoing.write(last)
                last = message
            outgoing.trailers = _relayed(await receiving.trailing_metadata())
        finally:
            receiving.cancel()
        assert last is not None, "a stream of responses that ended well has one"
        return last


def _relayed(trailers: Any) -> Any:
    return tuple(
        (key, value)
        for key, value in trailers or ()
        if key in _OWN_TRAILERS or (key.startswith("des-") and key != REQUEST_ID_KEY)
    )
