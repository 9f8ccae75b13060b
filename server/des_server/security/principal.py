"""Who a call is made by, what that one may do, and which call runs now."""

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from des.errors import DeniedError


class Verb(StrEnum):
    """What a grant allows. `ADMIN` is no sum of the others: it stands for what operators do."""

    ASSIGN = "assign"
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    LIST = "list"
    SHARDS = "shards"
    """Shard status, metrics and the pages of the HTTP port: about the store, not about one file."""
    ADMIN = "admin"


UNNAMED: Final = frozenset({Verb.SHARDS, Verb.ADMIN})
"""Verbs on the store as a whole: a grant of them has no prefix to look at."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Some verbs on the names that begin with a prefix."""

    verbs: frozenset[Verb]
    prefix: str = ""
    """Empty for every name."""

    def covers(self, verb: Verb, name: str) -> bool:
        """Tell whether the verb is granted on a name, or on all names that begin with it."""
        return verb in self.verbs and (verb in UNNAMED or name.startswith(self.prefix))


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose credentials were good. Without a grant they may do nothing."""

    name: str
    """`key:ID`, `jwt:SUBJECT` or `cert:NAME`."""
    grants: tuple[Grant, ...] = field(default=(), repr=False)

    def may(self, verb: Verb, name: str) -> bool:
        """Tell whether one grant covers a verb on a name."""
        return any(grant.covers(verb, name) for grant in self.grants)

    def may_anywhere(self, verbs: Iterable[Verb]) -> bool:
        """Tell whether one of the verbs is granted on any name at all."""
        return any(not grant.verbs.isdisjoint(verbs) for grant in self.grants)

    def require(self, verb: Verb, name: str) -> None:
        """Refuse what is not granted. Costs no look at the store: a refusal says nothing of what exists.

        Raises:
            DeniedError: no grant covers it.
        """
        if not self.may(verb, name):
            raise denied(verb, name)


EVERYTHING: Final = (Grant(frozenset(Verb)),)
"""Every verb on every name."""


def denied(verb: Verb, name: str = "") -> DeniedError:
    """Return the refusal of a verb."""
    what = f" on {name!r}" if name and verb not in UNNAMED else ""
    return DeniedError(f"{verb} is not granted{what}", permission=str(verb))


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """The call that the running task serves."""

    principal: Principal
    method: str
    request_id: str


CURRENT: Final[ContextVar[CurrentCall]] = ContextVar("des_current_call")
"""Set by the doors (`CallWrapper`, `HttpGate`) before anything of a call runs; never a default."""
