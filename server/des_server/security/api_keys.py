"""API keys: 32 random bytes each, of which the server keeps a hash.

A key is `des_ID_SECRET`. The ID is public and finds the entry; the secret is compared as its SHA-256, in
constant time. A slow hash would add nothing: nobody guesses 256 random bits.

The file is JSON, 0600, and replaced as a whole. A server looks at each use whether it has changed, so a
key that was revoked is refused from the next call on.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from des.clock import Clock
from des.errors import CredentialsError, DesError
from des_server.security.principal import Grant, Principal, Verb

MARK: Final = "des"
"""First part of every key: tells keys from tokens, and scanners of leaked secrets what they have found."""
SECRET_BYTES: Final = 32
ID_BYTES: Final = 8
KEYS_MAX: Final = 10_000
VERSION: Final = 1
_NEVER: Final = hashlib.sha256(b"").digest()


class KeyFileError(DesError):
    """The file of API keys is not one, or more people than its owner can read it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key."""

    key_id: str
    digest: bytes = field(repr=False)
    """SHA-256 of the secret."""
    grants: tuple[Grant, ...]
    created_ms: int
    expires_ms: int | None
    """None for never."""
    note: str = ""


class ApiKeyFile:
    """The keys of one store."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def authenticate(self, key: str) -> Principal:
        """Return whose key this is. Costs one `stat` and one hash.

        Raises:
            CredentialsError: unknown, revoked, expired, or not a key. All but the last expired look alike.
            KeyFileError: the file cannot be used.
        """
        parts = key.split("_", 2)
        known = self.keys().get(parts[1]) if len(parts) == 3 and parts[0] == MARK else None
        secret = parts[2] if len(parts) == 3 else ""
        good = hmac.compare_digest(_digest(secret), known.digest if known is not None else _NEVER)
        if known is None or not good or not secret:
            raise CredentialsError("the API key is not known here", scheme="Bearer")
        if known.expires_ms is not None and self._clock.now_ms() >= known.expires_ms:
            raise CredentialsError("the API key has expired", scheme="Bearer")
        return Principal(f"key:{known.key_id}", known.grants)

    def keys(self) -> dict[str, ApiKey]:
        """Return the keys by id, read anew when the file has changed. No file is no key.

        Raises:
            KeyFileError: see there.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, {}
            return self._keys
        except OSError as error:
            raise KeyFileError(f"cannot look at {self._path}: {error.strerror}") from error
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            # What another user keeps for us (a mounted secret) can only be read through its group.
            if found.st_mode & (0o077 if found.st_uid == os.geteuid() else 0o037):
                raise KeyFileError(
                    f"{self._path} has mode {found.st_mode & 0o777:04o}, expected 0600: it is for its owner"
                )
            self._keys = _read(self._path)
            self._seen = seen
        return self._keys

    def create(self, grants: Sequence[Grant], *, expires_ms: int | None, note: str) -> tuple[ApiKey, str]:
        """Make a key and return what is kept of it, and the key, which nobody can be told again."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key_id = secrets.token_hex(ID_BYTES)
        made = ApiKey(key_id, _digest(secret), tuple(grants), self._clock.now_ms(), expires_ms, note)
        with self._locked():
            keys = dict(self.keys())
            if len(keys) >= KEYS_MAX:
                raise KeyFileError(f"{self._path} has {len(keys)} keys, at most {KEYS_MAX} are kept")
            keys[key_id] = made
            self._replace(keys)
        return made, f"{MARK}_{key_id}_{secret}"

    def revoke(self, key_id: str) -> bool:
        """Forget a key and return whether there was one."""
        with self._locked():
            keys = dict(self.keys())
            if keys.pop(key_id, None) is None:
                return False
            self._replace(keys)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other commands out; the server only reads, and sees the old file or the new one."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _replace(self, keys: dict[str, ApiKey]) -> None:
        text = json.dumps({"version": VERSION, "keys": [_entry(key) for key in keys.values()]}, indent=1)
        beside = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # noqa: PTH108  beside the descriptor it is made with
        made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _entry(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "sha256": key.digest.hex(),
        "grants": [{"verbs": sorted(grant.verbs), "prefix": grant.prefix} for grant in key.grants],
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "note": key.note,
    }


def _read(path: Path) -> dict[str, ApiKey]:
    try:
        found = json.loads(path.read_bytes())
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']!r}, expected {VERSION}")
        keys = [
            ApiKey(
                key_id=str(each["id"]),
                digest=bytes.fromhex(each["sha256"]),
                grants=tuple(
                    Grant(frozenset(map(Verb, grant["verbs"])), str(grant["prefix"]))
                    for grant in each["grants"]
                ),
                created_ms=int(each["created_ms"]),
                expires_ms=None if each["expires_ms"] is None else int(each["expires_ms"]),
                note=str(each["note"]),
            )
            for each in found["keys"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyFileError(f"{path} is no file of API keys: {error}") from error
    return {key.key_id: key for key in keys}
