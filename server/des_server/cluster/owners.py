"""Who is asked about what this node does not own: round after round, while a shard is between two owners."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping, MutableSequence, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

import structlog
from grpc.aio import AioRpcError, Channel

from des.cluster import NotShardOwnerError
from des.db.membership import NodeRow
from des.errors import DesError, UnavailableError
from des.node import ClusterSide
from des.retrieval.owner_next import owner_is_next
from des_server.cluster.hints import OwnerHints
from des_server.cluster.onward import SERVED, Onward, OnwardCalls, was_forwarded
from des_server.cluster.peers import Peers
from des_server.from_wire import error_from_call
from des_server.status import STATUS_KEY, info_in

WAIT_FIRST_S: Final = 0.05
WAIT_MAX_S: Final = 0.4
"""Waits between two looks at who owns a shard; they double."""
AWAY: Final = frozenset({"NOT_SHARD_OWNER", "SHUTTING_DOWN"})
"""Reasons of a node that another one may answer better."""

T = TypeVar("T")
Pending = MutableMapping[int, NotShardOwnerError]
"""Places in what was asked, each with its last refusal."""
Round = tuple[list[int], list[tuple[NodeRow, list[int]]]]
"""Places to ask here, and places to ask each of some other nodes."""
Answer = Callable[[int, "T | DesError"], None]
"""Takes the answer about one place."""

_log = structlog.get_logger(__name__)


class Owners:
    """Finds the owners of shards for calls about many files, and asks them."""

    def __init__(
        self, cluster: ClusterSide, peers: Peers, calls: OnwardCalls, hints: OwnerHints, *, wait_s: float
    ) -> None:
        """Ask for one node.

        Args:
            cluster: what the node knows of the others.
            peers: channels to them.
            calls: what calls to them carry.
            hints: tell callers where to ask.
            wait_s: how long a call waits for a shard that is between two owners.
        """
        self._cluster = cluster
        self._peers = peers
        self._calls = calls
        self._hints = hints
        self._wait_s = wait_s
        self.forwarded = 0
        """Calls sent on so far."""
        self.forward_failures = 0
        """Calls that could not be sent on."""

    def current(self) -> Onward:
        """Return what the call that the running task serves takes along."""
        return self._calls.current()

    @staticmethod
    def left() -> AbstractContextManager[None]:
        """Leave the reads of a block to their shards' owners, unless another node sent the call here."""
        context = SERVED.get()
        return nullcontext() if context is not None and was_forwarded(context) else owner_is_next()

    def channel(self, node: NodeRow) -> Channel:
        """Return the channel to a node."""
        return self._peers.channel(node.address)

    async def settle(
        self,
        outcomes: "MutableSequence[T | DesError]",
        *,
        here: "Callable[[list[int]], Awaitable[Sequence[T | DesError]]]",
        there: "Callable[[Channel, Onward, list[int], Answer[T]], Awaitable[None]]",
        on_lost: Callable[[list[int]], None] = lambda _: None,
        call: Onward | None = None,
        is_read: bool = False,
    ) -> None:
        """Replace the refusals among `outcomes` by what the owners say, as far as they answer in time.

        Args:
            outcomes: of this node's own attempt.
            here: asks this node again about some places, in order.
            there: asks another node, and hands over each answer as it comes.
            on_lost: hears of places that another node was asked about and gave no answer.
            call: what goes along; what the running task's call takes along where None.
            is_read: this node's own attempt was `left` to the owners: where there is none that answers, this
                node is asked once more.
        """
        pending: Pending = {
            at: outcome for at, outcome in enumerate(outcomes) if isinstance(outcome, NotShardOwnerError)
        }
        if not pending:
            return
        call = call or self._calls.current()

        def answer(at: int, outcome: "T | DesError") -> None:
            outcomes[at] = outcome
            if isinstance(outcome, NotShardOwnerError):
                pending[at] = outcome
            else:
                pending.pop(at, None)

        async def ask_here(places: list[int]) -> None:
            for at, outcome in zip(places, await here(places), strict=True):
                answer(at, outcome)

        looked: set[int] = set()

        async def look(places: list[int]) -> None:
            due = [at for at in places if is_read and at in pending and at not in looked]
            looked.update(due)
            if due:
                await ask_here(due)

        async def ask(owner: NodeRow, places: list[int]) -> None:
            left = set(places)

            def told(at: int, outcome: "T | DesError") -> None:
                left.discard(at)
                if len(outcomes) == 1 and not isinstance(outcome, NotShardOwnerError):
                    self._hints.tell(pending[at].shard, owner)
                answer(at, outcome)

            self.forwarded += 1
            try:
                await there(self.channel(owner), call, places, told)
            except AioRpcError as error:
                lost = sorted(left)
                if is_away(error):
                    self.forward_failures += 1
                    _log.debug("owner is away", owner=owner.node, error=str(error.details()))
                    on_lost(lost)
                    await look(lost)
                    return
                failed = error_from_call(error)
                for at in lost:
                    told(at, failed)

        await look(self.ownerless(pending))
        async for mine, theirs in self.rounds(pending, call):
            asked = [ask(owner, places) for owner, places in theirs]
            if mine:
                asked.append(ask_here(mine))
            await asyncio.gather(*asked)
        await look(list(pending))

    def ownerless(self, pending: Pending) -> list[int]:
        """Return the places of shards that nobody owns, as far as this node knows."""
        return [at for at, refusal in pending.items() if self._cluster.owner(refusal.shard) is None]

    async def rounds(self, pending: Pending, call: Onward) -> AsyncGenerator[Round, None]:
        """Yield whom to ask about what is `pending`, until nothing is or the time is up.

        The caller takes out what is settled. What this node refuses although it owns the shard stays
        refused: a lost node may have it.
        """
        loop = asyncio.get_running_loop()
        remaining = self._wait_s if call.timeout_s is None else min(self._wait_s, call.timeout_s)
        ends_at = loop.time() + remaining
        wait_s = WAIT_FIRST_S
        final = {at for at, error in pending.items() if self._cluster.owns(error.shard)}
        look_again = call.is_forwarded
        while active := {at: error for at, error in pending.items() if at not in final}:
            mine, theirs = await self._group(active, look_again=look_again)
            if call.is_forwarded:
                theirs = []
                if not mine and not any(self._cluster.is_gaining(error.shard) for error in active.values()):
                    return  # at once: whoever sent it here may know by now who owns the shards
            if mine or theirs:
                yield mine, theirs
                final.update(at for at in mine if at in pending and self._cluster.owns(pending[at].shard))
                if not pending.keys() - final:
                    return
            if loop.time() + wait_s > ends_at or self._cluster.is_resharded:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, WAIT_MAX_S)
            look_again = True

    async def _group(self, pending: Pending, *, look_again: bool) -> Round:
        shards = {refusal.shard for refusal in pending.values()}
        if gaining := next((shard for shard in sorted(shards) if self._cluster.is_gaining(shard)), None):
            await self._cluster.wait_ready(gaining, WAIT_MAX_S)
        if look_again or any(self._cluster.owner(shard) is None for shard in shards):
            try:
                await self._cluster.refresh()
            except UnavailableError as error:
                _log.info("the catalog does not say who owns a shard", error=str(error))
        mine: list[int] = []
        theirs: dict[str, tuple[NodeRow, list[int]]] = {}
        for at, refusal in pending.items():
            owner = self._cluster.owner(refusal.shard)
            if self._cluster.owns(refusal.shard):
                mine.append(at)
            elif owner is not None and owner.node != self._cluster.node and owner.address:
                theirs.setdefault(owner.node, (owner, []))[1].append(at)
        return mine, list(theirs.values())


def is_away(error: AioRpcError) -> bool:
    """Whether another node may answer better: this one was not reached, is leaving, or is no owner."""
    if error.code().name != "UNAVAILABLE":
        return False
    status = next((value for key, value in error.trailing_metadata() or () if key == STATUS_KEY), None)
    return not isinstance(status, bytes) or info_in(status)[0] in AWAY
