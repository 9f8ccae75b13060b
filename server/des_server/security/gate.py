"""The gate in front of every call of the gRPC port: who is it, and may they call this at all?"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from des.errors import CredentialsError, DeniedError, DesError
from des_server.cluster.node_keys import NODE_KEY, NODES_ONLY, PRINCIPAL_KEY, NodeKeys
from des_server.security.audit import AuditLog
from des_server.security.authenticate import Authenticator, Everyone, authorization_of
from des_server.security.principal import CURRENT, EVERYTHING, CurrentCall, Principal, Verb, denied
from des_server.security.quota import Quotas
from des_server.security.rules import METHODS

NOBODY: Final = "-"


class CallGate:
    """Admits calls. Without it a server serves everyone who reaches it."""

    def __init__(
        self,
        authenticator: Authenticator | Everyone,
        quotas: Quotas,
        audit: AuditLog | None,
        nodes: NodeKeys | None = None,
    ) -> None:
        """Admit by these.

        Args:
            authenticator: tells who calls.
            quotas: of each principal.
            audit: takes what is refused.
            nodes: keys by which other nodes of the cluster prove what they are; None or none of them where
                nobody can.
        """
        self._nodes = nodes
        self._authenticator = authenticator
        self._quotas = quotas
        self._audit = audit

    async def admit(
        self,
        method: str,
        *,
        metadata: Iterable[tuple[str, Any]] | None,
        certificate: Mapping[str, Iterable[bytes]] | None,
        request_id: str,
    ) -> Principal:
        """Set the running task's `CURRENT` call, before a message of it is looked at.

        Args:
            method: `service/method`, or what `METHODS` has for neither: the HTTP port gives its own verbs to
                `admit_for`.
            metadata: of the call.
            certificate: of the connection, as `Authenticator.identify` takes it.
            request_id: of the call.

        Raises:
            CredentialsError: nobody known.
            DeniedError: nothing that the method could be used for is granted.
            QuotaExceededError: the principal calls too often.
        """
        verbs = METHODS.get(method)
        metadata = tuple(metadata or ())
        if self._nodes is not None and any(key in NODES_ONLY or key == NODE_KEY for key, _ in metadata):
            return self._admit_node(self._nodes, metadata, method, request_id)
        return await self.admit_for(
            verbs, method, metadata=metadata, certificate=certificate, request_id=request_id
        )

    async def admit_for(
        self,
        verbs: frozenset[Verb] | None,
        method: str,
        *,
        metadata: Iterable[tuple[str, Any]] | None,
        certificate: Mapping[str, Iterable[bytes]] | None,
        request_id: str,
    ) -> Principal:
        """As `admit`, for the given verbs: none of them is for everyone known, None for no one."""
        who = NOBODY
        try:
            principal = await self._authenticator.identify(authorization_of(metadata), certificate)
            who = principal.name
            if verbs is None:
                raise DeniedError(f"{method} is granted to nobody", permission=method)
            if verbs and not principal.may_anywhere(verbs):
                raise denied(min(verbs))
            self._quotas.count(principal.name)
        except (CredentialsError, DeniedError) as error:
            self.refused(error, principal=who, method=method, request_id=request_id)
            raise
        CURRENT.set(CurrentCall(principal, method, request_id))
        return principal

    def _admit_node(
        self, nodes: NodeKeys, metadata: tuple[tuple[str, Any], ...], method: str, request_id: str
    ) -> Principal:
        """Admit what another node sent on, in the name of who called there, whose grants it looked at."""
        try:
            nodes.check(metadata)
        except CredentialsError as error:
            self.refused(error, principal=NOBODY, method=method, request_id=request_id)
            raise
        names = [value for key, value in metadata if key == PRINCIPAL_KEY]
        name = names[0].decode("utf-8", "replace") if names else "node"
        principal = Principal(name, EVERYTHING)
        CURRENT.set(CurrentCall(principal, method, request_id))
        return principal

    def refused(self, error: DesError, *, principal: str, method: str, request_id: str) -> None:
        """Write a refusal down."""
        if self._audit is not None:
            self._audit.write(
                principal=principal,
                method=method,
                request_id=request_id,
                verb=error.details.get("permission", ""),
                name="",
                result=error.reason,
            )
