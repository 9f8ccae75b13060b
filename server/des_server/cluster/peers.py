"""Channels to other nodes: one per address, opened when first needed."""

from collections.abc import Callable
from typing import Any, Final

import grpc

from des.config import LimitSettings, Settings
from des_server.convert import MESSAGE_HEADROOM
from des_server.security.tls import read_pem

PEERS_MAX: Final = 1024
"""Addresses whose channels are kept open; nodes that come back elsewhere leave old ones behind."""

ChannelTo = Callable[[str, list[tuple[str, int]]], grpc.aio.Channel]


def plain_channel(address: str, options: list[tuple[str, int]]) -> grpc.aio.Channel:
    """Return a channel in plain text."""
    return grpc.aio.insecure_channel(address, options=options)


def secure_channel(settings: Settings) -> ChannelTo:
    """Return how to reach other nodes over TLS, with this node's own certificate where they ask for one.

    The files are read once: a node that is to trust another authority is started anew.

    Raises:
        TlsFilesError: one of the files cannot be read.
    """
    tls, cluster = settings.tls, settings.cluster
    own = tls.client_ca is not None and tls.cert is not None and tls.key is not None
    credentials = grpc.ssl_channel_credentials(
        root_certificates=None if cluster.ca is None else read_pem(cluster.ca),
        private_key=read_pem(tls.key) if own and tls.key is not None else None,
        certificate_chain=read_pem(tls.cert) if own and tls.cert is not None else None,
    )
    name: list[tuple[str, Any]] = (
        [("grpc.ssl_target_name_override", cluster.tls_name)] if cluster.tls_name else []
    )
    return lambda address, options: grpc.aio.secure_channel(address, credentials, options=[*options, *name])


class Peers:
    """The channels of one server to its peers."""

    def __init__(self, limits: LimitSettings, channel_to: ChannelTo = plain_channel) -> None:
        message_bytes = limits.chunk_bytes + MESSAGE_HEADROOM
        self._channel_to = channel_to
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
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._channel_to(address, self._options)
        return channel

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
