# Made by scripts/make_sync_client.py from des_client/aio/client.py: change that one.
"""The blocking client."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from des_client.channels import DEFAULT_TARGET, ChannelOptions, TlsConfig, Token, endpoints
from des_client.retry import RetryConfig
from des_client.sync.shards import Shards

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


class DesClient(Shards):
    """A store, from blocking code. Any number of threads may share one.

    Connecting happens at the first call. Create it after forking, not before.

    >>> with DesClient("127.0.0.1:7420") as des:
    ...     name = (des.put(b"hello", content_type="text/plain")).file.name
    ...     des.get(name)
    b'hello'
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        tls: TlsConfig | bool | None = None,
        token: Token | None = None,
        timeout_s: float = 30.0,
        retry: RetryConfig | None = RetryConfig(),  # noqa: B008  frozen
        verify: bool = True,
        metadata: Mapping[str, str] = {},
        channels: int = 1,
        follow: bool = True,
        allow_insecure_token: bool = False,
        options: ChannelOptions = (),
        tracing: "bool | TracerProvider" = False,
    ) -> None:
        """Take note of where the store is; nothing is connected yet.

        Args:
            target: host:port (or any gRPC target, `dns:///host:port`, `unix:/path`), or several nodes
                of one store, asked in turn.
            tls: True for TLS with public roots, a `TlsConfig` for others; None or False for plaintext.
            token: sent as `authorization: Bearer ...`; in clear text only to loopback targets. A callable is
                asked for it before every attempt, so that a token that ends soon can be renewed.
            timeout_s: time for a call, all attempts together. A transfer of many messages may be silent
                for this long, and has this plus a second per 256 KiB in all.
            retry: None to try once.
            verify: make and check CRC32C of every chunk and whole file, in both directions.
            metadata: headers for every call.
            channels: connections per target. More than one helps where several server processes share
                a port, or one connection is the bottleneck.
            follow: with several connections, ask the node that owns a file's shard directly, as far as
                earlier answers told which one it is; False to take turns only.
            allow_insecure_token: let `token` cross a network in clear text.
            options: further gRPC channel arguments; they win over the client's own.
            tracing: make a span of OpenTelemetry for each operation, in the caller's current trace, and hand
                it on with each call (extra `otel`). True for the process's tracer provider, or another one.

        Raises:
            InvalidArgument: one of them makes no sense.
        """
        config = endpoints(
            target,
            tls=tls,
            token=token,
            allow_insecure_token=allow_insecure_token,
            metadata=metadata,
            channels=channels,
            options=options,
            tracing=bool(tracing),
        )
        super().__init__(config, timeout_s=timeout_s, retry=retry, verify=verify, follow=follow)
        if tracing:
            from des_client.spans import give_spans  # noqa: PLC0415  optional dependency

            give_spans(self, None if tracing is True else tracing)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(dict.fromkeys(self._endpoints.targets))!r})"

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls under way elsewhere end with an error."""
        self._close()
