"""Channels to other nodes: one per address, opened when first needed."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

import grpc
import structlog

from des.clock import Clock
from des.config import LimitSettings, Settings
from des_server.convert import MESSAGE_HEADROOM
from des_server.security.tls import TlsFilesError, load_pair, read_pem, state_of

LOOK_S: Final = 1.0
"""Between two looks at the TLS files."""
OLD_CALLS_S: Final = 60.0
"""How long calls may go on that began before the TLS files changed."""
PEERS_MAX: Final = 1024
"""Addresses whose channels are kept open; nodes that come back elsewhere leave old ones behind."""

_log = structlog.get_logger(__name__)

ChannelTo = Callable[[str, list[tuple[str, int]]], grpc.aio.Channel]


def plain_channel(address: str, options: list[tuple[str, int]]) -> grpc.aio.Channel:
    """Return a channel in plain text."""
    return grpc.aio.insecure_channel(address, options=options)


class SecureChannels:
    """Opens channels over TLS, with this node's own certificate where the others ask for one.

    Files that change are used for the channels that are opened from then on; files that cannot be used are
    told of, and those before them stay.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Read the files.

        Raises:
            TlsFilesError: one of them cannot be used.
        """
        tls, cluster = settings.tls, settings.cluster
        self._ca = cluster.ca
        self._pair = (tls.cert, tls.key) if tls.client_ca is not None and tls.cert and tls.key else None
        self._name: list[tuple[str, Any]] = (
            [("grpc.ssl_target_name_override", cluster.tls_name)] if cluster.tls_name else []
        )
        self._clock = clock
        self._looked_at = clock.monotonic()
        self._paths = [*([self._ca] if self._ca else []), *(self._pair or ())]
        self._state = state_of(self._paths)
        self._credentials = self._read()
        self._edition = 0

    def __call__(self, address: str, options: list[tuple[str, int]]) -> grpc.aio.Channel:
        """Return a channel to an address."""
        return grpc.aio.secure_channel(address, self._credentials, options=[*options, *self._name])

    def edition(self) -> int:
        """Return a number that grows whenever channels are opened with other files. Looks once a second."""
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_S:
            return self._edition
        self._looked_at = now
        try:
            if (state := state_of(self._paths)) != self._state:
                self._credentials = self._read()
                self._state = state
                self._edition += 1
                _log.info("other nodes are reached with new TLS files")
        except TlsFilesError as error:
            _log.error("the TLS files for other nodes cannot be used, the old ones stay", error=str(error))
        return self._edition

    def _read(self) -> grpc.ChannelCredentials:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # refuses what gRPC would only fail with later
        roots = None
        if self._ca is not None:
            roots = read_pem(self._ca)
            try:
                context.load_verify_locations(cadata=roots.decode("ascii", "replace"))
            except ssl.SSLError as error:
                raise TlsFilesError(f"{self._ca} has no certificate of an authority: {error}") from error
        if self._pair is None:
            return grpc.ssl_channel_credentials(root_certificates=roots)
        cert, key = self._pair
        load_pair(context, cert, key)
        return grpc.ssl_channel_credentials(
            root_certificates=roots, private_key=read_pem(key), certificate_chain=read_pem(cert)
        )


class Peers:
    """The channels of one server to its peers."""

    def __init__(
        self,
        limits: LimitSettings,
        channel_to: ChannelTo = plain_channel,
        *,
        edition: Callable[[], int] = lambda: 0,
    ) -> None:
        """Open channels by `channel_to`, and anew whenever `edition` gives another number."""
        message_bytes = limits.chunk_bytes + MESSAGE_HEADROOM
        self._channel_to = channel_to
        self._edition = edition
        self._opened = edition()
        """Edition of the channels that are open."""
        self._closing: set[asyncio.Task[None]] = set()
        self._options = [
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", message_bytes),
            # A channel of its own for each address: those of one process would share connections.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),  # the router decides
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 500),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 5_000),
        ]
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, address: str) -> grpc.aio.Channel:
        """Return the channel to an address."""
        if (edition := self._edition()) != self._opened:
            self._opened = edition
            self._replace_all()
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._channel_to(address, self._options)
        return channel

    def _replace_all(self) -> None:
        """Have all channels opened anew when they are needed; calls on the old ones may end."""
        for channel in self._channels.values():
            task = asyncio.create_task(channel.close(OLD_CALLS_S))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._channels.clear()

    async def keep_only(self, addresses: set[str]) -> None:
        """Close the channels to nodes that are gone, once there are many."""
        if len(self._channels) <= PEERS_MAX:
            return
        for address in [one for one in self._channels if one not in addresses]:
            await self._channels.pop(address).close()

    async def close(self) -> None:
        """Close all channels; calls on them are cut off."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
