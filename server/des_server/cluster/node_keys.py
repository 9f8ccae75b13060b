"""How a node proves to another that it is one: a key that all nodes of a cluster share.

What a node sends on has been looked at where the caller is known; who could pass for a node could pass
for anybody. So where callers are told apart, the marks of a forwarded call count only beside the key.
"""

import hmac
from collections.abc import Iterable
from typing import Any, Final

from des.config import ClusterSettings
from des.errors import CredentialsError, PreconditionError

NODE_KEY: Final = "des-node-key"
"""On every call of a node to another, where the cluster has a key."""
HOP_KEY: Final = "des-forwarded-by"
"""On a call that a node sent on: its UUID."""
HOME_KEY: Final = "des-coming-home"
"""On a file that a node acknowledged alone and brings to its owner."""
OPEN_ONLY_KEY: Final = "des-open-only"
"""On a listing that another node completes: only the open files of the node that is asked."""
PRINCIPAL_KEY: Final = "des-principal-bin"
"""Who made a call that was sent on, in UTF-8: for the audit log, grants were looked at before."""
NODES_ONLY: Final = frozenset({HOP_KEY, HOME_KEY, OPEN_ONLY_KEY})
"""Marks that mean something only from a node."""
KEY_CHARACTERS_MIN: Final = 32
_SAFE: Final = frozenset(map(chr, range(0x21, 0x7F)))


class ClusterKeyError(PreconditionError):
    """The cluster's key cannot be used."""


class NodeKeys:
    """The keys of a cluster: the first is shown, any of them is accepted."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Take the keys.

        Raises:
            ClusterKeyError: one is short, or no line of printable ASCII.
        """
        self._keys = tuple(keys)
        for key in self._keys:
            if len(key) < KEY_CHARACTERS_MIN or not _SAFE.issuperset(key):
                raise ClusterKeyError(
                    f"a key of the cluster has {len(key)} characters, expected {KEY_CHARACTERS_MIN} or more, "
                    "of printable ASCII without blanks"
                )

    @classmethod
    def of(cls, settings: ClusterSettings) -> "NodeKeys":
        """Return the keys of `cluster.key` or `cluster.key_file`, one a line; none where neither is set.

        Raises:
            ClusterKeyError: the file cannot be read, or holds no key that can be used.
        """
        if key := settings.key.get_secret_value():
            return cls([key])
        if settings.key_file is None:
            return cls([])
        try:
            lines = settings.key_file.read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            raise ClusterKeyError(f"cannot read the cluster's key in {settings.key_file}: {error}") from error
        if not lines:
            raise ClusterKeyError(f"{settings.key_file} holds no key of the cluster")
        return cls(lines)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def shown(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata that proves this process to be a node."""
        return ((NODE_KEY, self._keys[0]),) if self._keys else ()

    def check(self, metadata: Iterable[tuple[str, Any]]) -> None:
        """Refuse who does not know a key.

        Raises:
            CredentialsError: no key, or none of this cluster's.
        """
        shown = [str(value).encode() for key, value in metadata if key == NODE_KEY]
        # Every key is compared, in constant time: how long it takes tells nothing.
        known = [hmac.compare_digest(one, key.encode()) for one in shown for key in self._keys]
        if len(shown) != 1 or not any(known):
            raise CredentialsError(
                "the call says that a node sent it on, and no key proves it", scheme="node"
            )
