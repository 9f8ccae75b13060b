"""From what a call brings along to who makes it: an API key, a token, or a client certificate."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from des.clock import Clock
from des.config import AuthSettings, Settings
from des.errors import CredentialsError
from des_server.security.api_keys import MARK, ApiKeyFile
from des_server.security.principal import EVERYTHING, Grant, Principal, Verb

CREDENTIAL_CHARACTERS_MAX: Final = 8 << 10
API_KEYS_FILE: Final = "api-keys.json"
_BEARER: Final = "bearer "
_ALTERNATIVE_NAME: Final = "x509_subject_alternative_name"


def api_keys_path(settings: Settings) -> Path:
    """Return where the hashes of API keys are: `auth.api_keys_file`, or a file in the data folder."""
    return settings.auth.api_keys_file or settings.data_dir / API_KEYS_FILE


def api_key_file(settings: Settings, clock: Clock) -> ApiKeyFile:
    """Return the API keys of a store."""
    return ApiKeyFile(api_keys_path(settings), clock)


class Everyone:
    """Stands where callers are not told apart, and changes are written down all the same."""

    async def identify(
        self, _authorization: str | None, _certificate: Mapping[str, Iterable[bytes]] | None
    ) -> Principal:
        """Return the same principal for every call, who may do everything."""
        return _EVERYONE


_EVERYONE: Final = Principal("-", EVERYTHING)


class Authenticator:
    """Tries what the settings allow, in a fixed order: a header, if there is one, and nothing else then."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Prepare what is configured.

        Raises:
            KeySetError: the address of the issuer's keys cannot be trusted.
        """
        auth = settings.auth
        self._grants = _grants_by_principal(auth)
        self._keys = api_key_file(settings, clock) if auth.api_keys else None
        self._tokens = None
        if settings.jwt.jwks:
            from des_server.security.tokens import TokenChecker  # noqa: PLC0415  an optional dependency

            self._tokens = TokenChecker(settings.jwt, clock)
        self._mtls = auth.mtls
        if self._keys is not None:
            self._keys.keys()  # a file that cannot be used is told at the start, not at the first call

    async def identify(
        self, authorization: str | None, certificate: Mapping[str, Iterable[bytes]] | None
    ) -> Principal:
        """Return who calls.

        Args:
            authorization: the header's value, None where there is none.
            certificate: gRPC's `auth_context` of the connection.

        Raises:
            CredentialsError: nobody that is known here.
        """
        if authorization is not None:
            return await self._bearer(authorization)
        if self._mtls and certificate:
            for raw in certificate.get(_ALTERNATIVE_NAME, ()):
                name = f"cert:{raw.decode('utf-8', 'replace')}"
                if name in self._grants:
                    return Principal(name, self._grants[name])
        raise CredentialsError("the call has no credentials that are accepted here", scheme="Bearer")

    async def _bearer(self, authorization: str) -> Principal:
        if len(authorization) > CREDENTIAL_CHARACTERS_MAX or not authorization.lower().startswith(_BEARER):
            raise CredentialsError("the authorization is no bearer token", scheme="Bearer")
        credential = authorization[len(_BEARER) :].strip()
        if self._keys is not None and credential.startswith(f"{MARK}_"):
            return self._keys.authenticate(credential)
        if self._tokens is not None:
            name = f"jwt:{await self._tokens.subject(credential)}"
            return Principal(name, self._grants.get(name, ()))
        raise CredentialsError("the credentials are of a kind that is not accepted here", scheme="Bearer")


def authorization_of(metadata: Iterable[tuple[str, Any]] | None) -> str | None:
    """Return the one authorization of a call's metadata.

    Raises:
        CredentialsError: there are several: which of them a proxy looked at is not known.
    """
    found = [value for key, value in metadata or () if key == "authorization"]
    if len(found) > 1:
        raise CredentialsError("the call has several authorizations", scheme="Bearer")
    return str(found[0]) if found else None


def _grants_by_principal(auth: AuthSettings) -> dict[str, tuple[Grant, ...]]:
    grants: dict[str, tuple[Grant, ...]] = {}
    for each in auth.grants:
        made = Grant(frozenset(map(Verb, each.verbs)), each.prefix)
        grants[each.principal] = (*grants.get(each.principal, ()), made)
    return grants
