"""What a call takes along when a node sends it on: metadata, identity, the time that is left."""

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from grpc.aio import ServicerContext

from des_server.cluster.node_keys import HOP_KEY, NODE_KEY, NODES_ONLY, PRINCIPAL_KEY, NodeKeys
from des_server.interceptors.calls import REQUEST_ID_KEY
from des_server.security.principal import CURRENT

UNCALLED_TIMEOUT_S: Final = 60.0
"""For what is asked of other nodes outside a gRPC call, by a request over HTTP."""

FOLLOW_KEY: Final = "des-follow"
"""On a call whose caller wants to know which node it reached."""
_NOT_CARRIED: Final = (
    frozenset({"user-agent", "content-type", "te", "authorization"})
    | {REQUEST_ID_KEY, PRINCIPAL_KEY, NODE_KEY, FOLLOW_KEY}
    | NODES_ONLY
)
_Context: TypeAlias = ServicerContext[Any, Any]
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

SERVED: Final[ContextVar[_Context | None]] = ContextVar("des_served_call", default=None)
"""The gRPC call that the running task serves, in a cluster."""


@dataclass(frozen=True, slots=True)
class Onward:
    """What goes along."""

    metadata: Metadata
    timeout_s: float | None
    """None for a caller who waits for ever."""
    is_forwarded: bool
    """Another node sent the call here: it goes no further."""


class OnwardCalls:
    """Makes what this node's calls to others carry."""

    def __init__(self, node: str, keys: NodeKeys) -> None:
        self._node = node
        self._proof = keys.shown()

    def own(self, *marks: tuple[str, str]) -> Metadata:
        """Return the metadata of a call that this node makes for itself."""
        return ((HOP_KEY, self._node), *marks, *self._proof)

    def current(self) -> Onward:
        """Return what the call that the running task serves takes along."""
        context = SERVED.get()
        if context is None:
            return Onward((*self._caller(), *self.own()), UNCALLED_TIMEOUT_S, is_forwarded=False)
        return Onward(self.carried(context), context.time_remaining(), is_forwarded=was_forwarded(context))

    def carried(self, context: _Context) -> Metadata:
        """Return a caller's metadata, a trace among them, under this call's request id and with its identity.

        Credentials stay here: the node that is asked trusts this one, and knows the caller's name.
        """
        given = [
            (key, value)
            for key, value in context.invocation_metadata() or ()
            if key not in _NOT_CARRIED and not key.startswith(("grpc-", ":"))
        ]
        request_id = [
            (key, value) for key, value in context.trailing_metadata() or () if key == REQUEST_ID_KEY
        ]
        return (*given, *request_id, *self._caller(), *self.own())

    @staticmethod
    def _caller() -> Metadata:
        call = CURRENT.get(None)
        return () if call is None else ((PRINCIPAL_KEY, call.principal.name.encode()),)


def was_forwarded(context: _Context) -> bool:
    """Whether another node sent the call here."""
    return has(context.invocation_metadata(), HOP_KEY)


def has(metadata: Iterable[tuple[str, Any]] | None, wanted: str) -> bool:
    """Whether a call has a mark."""
    return any(key == wanted for key, _ in metadata or ())
