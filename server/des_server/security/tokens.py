"""Bearer tokens (JWT): signed by an issuer that the settings name, checked against its published keys.

What is accepted is fixed here and in the settings, never by the token: its algorithm must be one of the
configured, all of them asymmetric; its key id must be one of the issuer's (RFC 8725, sections 3.1 and 3.8).
"""

import asyncio
import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
import structlog

from des.clock import Clock
from des.config import JwtSettings
from des.errors import CredentialsError, DesError, UnavailableError
from des_server.listen import Address

REQUIRED: Final = ("exp", "aud", "iss", "sub")
KEY_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""First two letters of an algorithm, and the type of key it may be used with."""
KEYS_FRESH_S: Final = 300.0
"""How long the issuer's keys are used before they are asked for again."""
KEYS_STALE_S: Final = 3600.0
"""How long they are used while the issuer does not answer."""
FETCH_PAUSE_S: Final = 10.0
"""Least time between two fetches: unknown key ids and failures cause no more than that."""
FETCH_S: Final = 5.0
KEYS_BYTES_MAX: Final = 1 << 20
SUBJECT_CHARACTERS_MAX: Final = 256
_log = structlog.get_logger(__name__)


class KeySetError(DesError):
    """The issuer's keys are no JSON Web Key Set, or their address cannot be trusted."""


class KeySetUnavailableError(UnavailableError):
    """The issuer's keys are not known now."""


@dataclass(frozen=True, slots=True)
class _Key:
    algorithms: frozenset[str]
    material: Any


class KeySet:
    """The issuer's keys, from a file that is looked at for changes, or from a URL with a cache."""

    def __init__(self, source: str, algorithms: tuple[str, ...], clock: Clock) -> None:
        """Take a path or URL.

        Raises:
            KeySetError: the URL is plain http and not this machine's.
        """
        self._source = source
        self._algorithms = algorithms
        self._clock = clock
        self._keys: Mapping[str, _Key] = {}
        self._seen: tuple[int, int, int] | None = None
        self._fetched: float | None = None
        self._tried: float | None = None
        self._fetching = asyncio.Lock()
        self._remote = "://" in source
        if self._remote:
            url = urllib.parse.urlsplit(source)
            near = Address(url.hostname or "", 0).is_loopback()
            if url.scheme != "https" and not (url.scheme == "http" and near):
                raise KeySetError(f"jwt.jwks is {url.scheme}://{url.hostname}, expected https")

    async def find(self, key_id: str) -> _Key | None:
        """Return a key, None where the issuer has none of this id.

        Raises:
            KeySetUnavailableError: the keys cannot be read, and those read before are too old.
            KeySetError: the file is not a key set.
        """
        if not self._remote:
            self._read_file()
            return self._keys.get(key_id)
        age = self._age()
        if age is None or age > KEYS_FRESH_S or key_id not in self._keys:
            await self._refresh()
        age = self._age()
        if age is None or age > KEYS_STALE_S:
            raise KeySetUnavailableError("the issuer's keys cannot be read now", retry_after_s=FETCH_PAUSE_S)
        return self._keys.get(key_id)

    def _age(self) -> float | None:
        return None if self._fetched is None else self._clock.monotonic() - self._fetched

    def _read_file(self) -> None:
        path = Path(self._source)
        try:
            found = path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._keys = self._parse(path.read_bytes())
                self._seen = seen
        except OSError as error:
            raise KeySetUnavailableError(f"cannot read {path}: {error.strerror}") from error

    async def _refresh(self) -> None:
        async with self._fetching:
            now = self._clock.monotonic()
            if self._tried is not None and now - self._tried < FETCH_PAUSE_S:
                return
            self._tried = now
            try:
                self._keys = self._parse(await asyncio.to_thread(_fetch, self._source))
                self._fetched = self._clock.monotonic()
            except (OSError, KeySetError) as error:
                _log.warning("the issuer's keys could not be fetched", error=str(error))

    def _parse(self, raw: bytes) -> Mapping[str, _Key]:
        try:
            listed = json.loads(raw)["keys"]
            keys: dict[str, _Key] = {}
            for each in listed:
                if "kid" not in each or each.get("use", "sig") != "sig":
                    continue
                usable = frozenset(
                    one
                    for one in self._algorithms
                    if each.get("kty") == KEY_TYPES[one[:2]] and each.get("alg", one) == one
                )
                if usable:
                    keys[str(each["kid"])] = _Key(usable, jwt.PyJWK(each, min(usable)).key)
        except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise KeySetError(f"not a JSON Web Key Set: {type(error).__name__}") from error
        return keys


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where the settings say, and from nowhere that answers in its place."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(url: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirect())
    with opener.open(url, timeout=FETCH_S) as answer:
        raw: bytes = answer.read(KEYS_BYTES_MAX + 1)
    if len(raw) > KEYS_BYTES_MAX:
        raise KeySetError(f"the key set has more than {KEYS_BYTES_MAX} bytes")
    return raw


class TokenChecker:
    """Tells whose token one is."""

    def __init__(self, settings: JwtSettings, clock: Clock) -> None:
        self._settings = settings
        self._keys = KeySet(settings.jwks, settings.algorithms, clock)

    async def subject(self, token: str) -> str:
        """Return the subject of a token that is good here. Costs one signature check.

        Raises:
            CredentialsError: it is not; the message says in what.
            KeySetUnavailableError: that cannot be told now.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _bad("the token cannot be read") from None
        key_id, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(key_id, str) or algorithm not in self._settings.algorithms:
            raise _bad("the token has no key id, or an algorithm that is not accepted here")
        key = await self._keys.find(key_id)
        if key is None or algorithm not in key.algorithms:
            raise _bad("the token was signed with a key that is not the issuer's")
        try:
            claims = jwt.decode(
                token,
                key.material,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_s,
                options={"require": list(REQUIRED)},
            )
        except jwt.ExpiredSignatureError:
            raise _bad("the token has expired") from None
        except jwt.InvalidAudienceError:
            raise _bad("the token is for another audience") from None
        except jwt.PyJWTError as error:
            raise _bad(f"the token is not good here: {type(error).__name__}") from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX:
            raise _bad("the token's subject is empty or too long")
        return subject


def _bad(why: str) -> CredentialsError:
    return CredentialsError(why, scheme="Bearer")
