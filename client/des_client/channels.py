"""How the client reaches its servers: targets, TLS, channel arguments, call metadata."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from des_client.errors import InvalidArgument

DEFAULT_TARGET: Final = "127.0.0.1:7420"

ChannelOptions: TypeAlias = tuple[tuple[str, str | int], ...]
Token: TypeAlias = str | Callable[[], str]
"""A bearer token, or what returns one that is good now. It is called before every attempt of every call, from
any thread, and should return at once: keep a token, and renew it before it ends."""

_KEEPALIVE_TIME_MS: Final = 60_000
_KEEPALIVE_TIMEOUT_MS: Final = 20_000
"""Servers refuse pings that come much more often than once a minute."""

_BASE_OPTIONS: Final[ChannelOptions] = (
    # Retries are this client's own: gRPC's cover neither large uploads nor begun downloads.
    ("grpc.enable_retries", 0),
    # Without it, channels to the same address share one connection, and so one server process.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", _KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    # A call may be silent for long (a seal, a stored write) and must not run out of pings.
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted server is found again while the client's own retries still run. The third of these
    # arguments, min_reconnect_backoff_ms, is left alone: it is also the time a handshake may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

_TARGET: Final = re.compile(
    r"(?:dns|unix|unix-abstract|vsock|ipv4|ipv6|xds|google-c2p):.+"  # gRPC's own ways to say where
    r"|(?:[^:/\[\]]+|\[[^\[\]/]+\]):[0-9]{1,5}"
)
_HEADER_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_LOOPBACK: Final = re.compile(
    r"(?:ipv4:)?127\.[0-9.]+(?::[0-9]+)?|(?:dns:/*)?localhost(?::[0-9]+)?|unix:.*"
    r"|(?:ipv6:)?\[::1\](?::[0-9]+)?"
)


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates. Each is PEM bytes or the path of a PEM file."""

    ca: bytes | str | os.PathLike[str] | None = None
    """Who may have signed the server's certificate; None for the roots that gRPC brings along."""
    cert: bytes | str | os.PathLike[str] | None = None
    """This client's certificate chain, for servers that ask for one."""
    key: bytes | str | os.PathLike[str] | None = field(default=None, repr=False)
    """The private key of `cert`."""
    server_name: str | None = None
    """Name to expect in the server's certificate instead of the target's host."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("a client certificate needs both cert and key")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files and build what gRPC wants."""
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.cert))


def _pem(source: bytes | str | os.PathLike[str] | None) -> bytes | None:
    if source is None or isinstance(source, bytes):
        return source
    return Path(source).read_bytes()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Everything needed to open the channels of a client."""

    targets: tuple[str, ...]
    """One entry per channel; round robin goes through them in this order."""
    credentials: grpc.ChannelCredentials | None
    """None for plaintext."""
    options: ChannelOptions
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Sent with every call."""
    token: Token | None = field(repr=False)
    """Sent with every call, as it is at that time."""
    carry_trace: Callable[[dict[str, str]], None] | None = None
    """Adds the caller's Trace Context to headers; None for none."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the next call sends.

        Raises:
            InvalidArgument: the token is not printable ASCII.
        """
        headers = self.headers
        if self.carry_trace is not None:
            carried: dict[str, str] = {}
            self.carry_trace(carried)
            headers = (*headers, *carried.items())
        if self.token is None:
            return headers
        token = self.token if isinstance(self.token, str) else self.token()
        if not isinstance(token, str) or not _HEADER_VALUE.fullmatch(token):
            raise InvalidArgument("the token is not printable ASCII")
        return (*headers, ("authorization", f"Bearer {token}"))


def _trace_carrier() -> Callable[[dict[str, str]], None]:
    try:
        from opentelemetry.propagate import inject  # noqa: PLC0415  optional dependency
    except ImportError as error:
        raise InvalidArgument("tracing needs OpenTelemetry: pip install 'des-client[otel]'") from error
    return inject


def check_target(target: str) -> None:
    """Refuse what is no place of a server: gRPC would look for it at port 443, or anywhere.

    Raises:
        InvalidArgument: it is neither host:port nor a target in gRPC's own words.
    """
    if not _TARGET.fullmatch(target):
        port = DEFAULT_TARGET.rpartition(":")[2]
        raise InvalidArgument(f"target is {target!r}, expected host:port, as in 'localhost:{port}'")


def endpoints(
    target: str | Sequence[str],
    *,
    tls: TlsConfig | bool | None,
    token: Token | None,
    allow_insecure_token: bool,
    metadata: Mapping[str, str],
    channels: int,
    options: ChannelOptions,
    tracing: bool = False,
) -> Endpoints:
    """Check and combine what the user asked for.

    Raises:
        InvalidArgument: no target, no channel, a header gRPC would refuse, or a token that would cross
            a network in clear text.
    """
    targets = (target,) if isinstance(target, str) else tuple(target)
    if not targets:
        raise InvalidArgument(f"target is {target!r}, expected host:port or several of them")
    for one in targets:
        check_target(one)
    if channels < 1:
        raise InvalidArgument(f"channels is {channels}, expected at least 1")
    config = TlsConfig() if tls is True else tls or None
    headers = dict(metadata)
    if token is not None:
        far = [one for one in targets if not _LOOPBACK.fullmatch(one)]
        if config is None and far and not allow_insecure_token:
            raise InvalidArgument(
                f"the token would go to {far[0]!r} in clear text: set tls, or allow_insecure_token=True"
            )
        headers.pop("authorization", None)  # a server refuses a call with two
    for key, value in headers.items():
        if not _HEADER_KEY.fullmatch(key) or key.startswith("grpc-") or key.endswith("-bin"):
            raise InvalidArgument(f"metadata key {key!r} is not lower-case ASCII, or is reserved by gRPC")
        if not _HEADER_VALUE.fullmatch(value):
            raise InvalidArgument(f"metadata value of {key!r} is not printable ASCII")
    name = (("grpc.ssl_target_name_override", config.server_name),) if config and config.server_name else ()
    made = Endpoints(
        # All targets once, then all again: neighbours in the round robin are different servers.
        targets=targets * channels,
        credentials=config.credentials() if config else None,
        options=(*_BASE_OPTIONS, *name, *options),
        headers=tuple(headers.items()),
        token=token,
        carry_trace=_trace_carrier() if tracing else None,
    )
    if isinstance(token, str):
        _ = made.metadata  # what cannot be sent is refused at once
    return made
