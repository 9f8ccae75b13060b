"""Which connections lead to the owner of a name's shard, as answers have told (docs/adr/0028).

No I/O in here. A node that sent a call on says so in its answer: who owns the shard, and who it is itself.
So a client learns which of its own connections lead where, and dials nothing that its user did not name. What
it believes may be out of date, or a connection may lead to another node than before: then the call is sent on
as ever, and the answer says what is right.
"""

import hashlib
import re
import threading
from collections.abc import Iterable
from typing import Any, Final

from des_proto.v1 import types_pb2

from des_client.road import Road

FOLLOW_KEY: Final = "des-follow"
"""Header: say who answers."""
NODE_KEY: Final = "des-node"
"""Trailer: the node that was reached."""
OWNER_KEY: Final = "des-owner"
"""Trailer of a call that was sent on: owner, shard and shard bits."""

SHARDS_MAX: Final = 1 << 14
"""Shards whose owners are remembered, about 4 MiB of them; most stores have 256."""
ASKS: Final = 3
"""Calls over a connection that ask who answers, before it is taken for one that never says."""
REPEATS: Final = 8
"""Reads of one stored file, with no other of its shard in between, after which reads of it take turns.

Any node answers them; but the first at each but the owner costs queries that the owner need not make."""

_NODE: Final = re.compile(r"[!-:<-~]{1,64}")
_OWNED: Final = re.compile(r"([!-:<-~]{1,64});([0-9]{1,20});([0-9]{1,2})")
_BITS_MAX: Final = 64


class _Shard:
    __slots__ = ("node", "read", "repeats")

    def __init__(self, node: str) -> None:
        self.node = node
        self.read = ""
        """The stored file of the shard that was read last."""
        self.repeats = 0
        """How often it was read since another one was."""


class _Table:
    """Owners by shard, for one number of shards."""

    __slots__ = ("bits", "shards")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.shards: dict[int, _Shard] = {}


class Owners:
    """What a client with several connections knows. Threads may share it."""

    def __init__(self, count: int) -> None:
        """Know nothing yet of `count` connections."""
        self._nodes = [""] * count
        """By connection: the node that it led to when it was last heard of."""
        self._asks = [ASKS] * count
        self._leads: dict[str, tuple[int, ...]] = {}
        """By node: the connections that lead there."""
        self._table = _Table(0)
        self._changing = threading.Lock()

    def leads(self, road: Road) -> tuple[int, ...]:
        """Return the connections that lead where the call is best asked; none where that is not known."""
        if road.strayed:
            return ()
        if road.node:
            return self._leads.get(road.node, ())
        table = self._table
        if not (road.name and table.shards):
            return ()
        known = table.shards.get(shard_of(road.name, table.bits))
        if known is None or (road.is_read and known.repeats >= REPEATS and known.read == road.name):
            return ()
        return self._leads.get(known.node, ())

    def asks(self, at: int) -> bool:
        """Whether the next call over a connection should ask who answers."""
        if not self._asks[at]:
            return False
        self._asks[at] -= 1
        return True

    def answered(self, road: Road, trailers: Iterable[Any], file: types_pb2.FileInfo | None) -> None:
        """Learn from an answer.

        Args:
            road: of the call.
            trailers: of the call.
            file: what the answer says of it; None for an error of the server's, and where who answers
                need not be who owns the shard.
        """
        node = owned = ""
        for key, value in trailers:
            if key == NODE_KEY and _NODE.fullmatch(value):
                node = value
            elif key == OWNER_KEY:
                owned = value
        if node:
            self._asks[road.at] = 0
            self._lead(road.at, node)
        road.told = self._nodes[road.at]
        is_stored = file is not None and file.state == types_pb2.FILE_STATE_STORED
        hint = _OWNED.fullmatch(owned) if owned else None
        if hint is not None:
            road.told, shard, bits = hint[1], int(hint[2]), int(hint[3])
            if bits <= _BITS_MAX and shard < 1 << bits:
                self._own(road.told, shard, bits)
            return
        table = self._table
        if file is None or road.node or not (file.name and table.shards and road.told):
            return
        shard = shard_of(file.name, table.bits)
        if not (road.is_read and is_stored):
            # Only a shard's owner writes, deletes and has the open files; whoever else is asked says so.
            self._own(road.told, shard, table.bits)
        elif (known := table.shards.get(shard)) is not None:
            known.repeats = known.repeats + 1 if known.read == file.name else 0
            known.read = file.name

    def failed(self, road: Road, *, silent: bool) -> None:
        """Hear that an attempt failed; `silent` where no server answered it."""
        road.strayed = True
        if silent:
            # It leads nowhere until it answers: perhaps to another node by then.
            self._asks[road.at] = ASKS
            self._lead(road.at, "")

    def _lead(self, at: int, node: str) -> None:
        if self._nodes[at] == node:
            return
        with self._changing:
            self._nodes[at] = node
            leads: dict[str, tuple[int, ...]] = {}
            for connection, one in enumerate(self._nodes):
                if one:
                    leads[one] = (*leads.get(one, ()), connection)
            self._leads = leads

    def _own(self, node: str, shard: int, bits: int) -> None:
        table = self._table
        known = table.shards.get(shard) if table.bits == bits else None
        if known is not None and known.node == node:
            return
        with self._changing:
            if self._table.bits != bits:
                # The store is divided anew: what was known of its shards says nothing of these.
                self._table = _Table(bits)
            shards = self._table.shards
            shards.pop(shard, None)
            while len(shards) >= SHARDS_MAX:
                del shards[next(iter(shards))]
            shards[shard] = _Shard(node)


def shard_of(name: str, bits: int) -> int:
    """Return the shard of a name among `2**bits`: the top bits of SHA-256 over its UTF-8."""
    digest = hashlib.sha256(name.encode(errors="replace"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") >> (_BITS_MAX - bits)
