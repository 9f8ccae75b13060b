"""The server put together: a node, its services, two ports. No globals."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, cast

import grpc
from des_proto.v1 import file_service_pb2, naming_service_pb2, shard_service_pb2, system_service_pb2
from fastapi import FastAPI
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from des.assignment.service import assign_router
from des.clock import Clock, SystemClock
from des.config import LimitSettings, Settings
from des.monitoring.health_metrics import HealthMetrics
from des.monitoring.metrics import NodeMetrics
from des.node import Node, ShardStatus
from des_server import reflection
from des_server.cluster.cluster_metrics import ClusterMetrics
from des_server.cluster.hints import OwnerHints
from des_server.cluster.homecoming import Homecoming
from des_server.cluster.node_keys import NodeKeys
from des_server.cluster.onward import OnwardCalls
from des_server.cluster.open_listing import OpenListing
from des_server.cluster.owners import Owners
from des_server.cluster.peers import Peers, SecureChannels
from des_server.cluster.routed_node import RoutedNode
from des_server.cluster.router import Router
from des_server.cluster.shard_status import LOOK_S, ClusterStatus
from des_server.convert import MESSAGE_HEADROOM
from des_server.credits import ByteCredits, SharedCredits
from des_server.dashboard.page import status_router
from des_server.dashboard.report import StatusReporter
from des_server.health import HealthFollower, cancelled
from des_server.http import HttpServer, make_app
from des_server.http_bodies import BodyLimit
from des_server.http_files import file_router
from des_server.http_metrics import HttpMetrics
from des_server.inflight import InFlight
from des_server.interceptors.calls import CallWrapper
from des_server.interceptors.metrics import GrpcMetrics
from des_server.listen import Address, AddressInUseError
from des_server.methods import Methods
from des_server.security.audit import AuditLog
from des_server.security.authenticate import Authenticator, Everyone
from des_server.security.gate import CallGate
from des_server.security.guard import GuardedNode
from des_server.security.http_gate import HttpGate
from des_server.security.principal import CURRENT
from des_server.security.quota import Quotas
from des_server.security.tls import TlsFiles
from des_server.servicers.files import FileServicer
from des_server.servicers.naming import NamingServicer
from des_server.servicers.shards import ShardServicer
from des_server.servicers.system import SystemServicer

SERVICES: Final[dict[str, ServiceDescriptor]] = {
    service.full_name: service
    for module in (naming_service_pb2, file_service_pb2, shard_service_pb2, system_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}
"""The services of the protos, by full name."""

CALLS_BEYOND_LIMIT: Final = 256
"""Calls that gRPC lets through above our own limit: health, reflection, and refusals that say why."""

QUIET_WAIT_S: Final = 0.5
"""How long refusals go on for clients that keep calling: each is told once, and comes back after a second."""

STOP_GRACE_S: Final = 1.0
"""Time for the last statuses to leave after the last handler has returned."""


LOOKAHEAD_BYTES: Final = 1 << 20
"""What a stream may send before it is read: the next message comes in while this one is worked on."""


def channel_options(limits: LimitSettings, *, share_ports: bool = False) -> list[tuple[str, int]]:
    """Return every limit of the transport, none left to a default that may change.

    `share_ports` lets processes serve one port together.
    """
    message_bytes = limits.chunk_bytes + MESSAGE_HEADROOM
    return [
        ("grpc.so_reuseport", int(share_ports)),  # else a second server on the port must fail
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        ("grpc.http2.bdp_probe", 0),  # which lets a fast sender fill many MiB that nobody reads
        ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
        ("grpc.max_metadata_size", 8 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
        ("grpc.max_concurrent_streams", 256),  # of one connection
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 15 * 60_000),
        ("grpc.keepalive_time_ms", 60_000),  # notices clients that vanished without a word
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ("grpc.http2.max_ping_strikes", 2),
    ]


class DesServer:
    """Serves one node over gRPC and, when asked, health and metrics over HTTP."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        *,
        registry: CollectorRegistry,
        clock: Clock,
        make_request_id: Callable[[], str],
        shared: Address | None = None,
    ) -> None:
        limits = settings.limits
        own = self._node = node
        self.settings = settings
        self.registry = registry
        self.metrics = NodeMetrics(registry)
        node.show_metrics(registry)
        self.inflight = InFlight(limits.concurrent_calls)
        self.lending = _lending(settings)
        self.metrics.upload_bytes_in_flight.set_function(lambda: self.lending.lent)
        self.metrics.calls_in_flight.set_function(lambda: self.inflight.count)
        self.health = HealthFollower(
            node,
            SERVICES,
            clock=clock,
            metrics=self.metrics,
            settings=settings.health,
            check_metrics=HealthMetrics(registry),
        )
        self.shared = shared
        """A second address, which other processes serve too."""
        self.address: Address | None = None
        """Where gRPC is served, once it is; by this process alone."""
        self.http_address: Address | None = None
        """Where HTTP is served; None where it is not."""
        auth = settings.auth
        self._tls = TlsFiles(settings.tls) if settings.tls.cert is not None else None
        self._audit = AuditLog(auth.audit_file, clock) if auth.audit_file is not None else None
        self._gate: CallGate | None = None
        keys = NodeKeys.of(settings.cluster) if settings.in_cluster else NodeKeys([])
        if settings.authenticates or self._audit is not None or keys:
            known = Authenticator(settings, clock) if settings.authenticates else Everyone()
            self._gate = CallGate(
                known, Quotas(limits.principal_calls_per_s, clock), self._audit, keys or None
            )
        self._wrapper = CallWrapper(
            metrics=GrpcMetrics(registry),
            inflight=self.inflight,
            make_request_id=make_request_id,
            gate=self._gate,
        )
        self._peers: Peers | None = None
        self._router: Router | None = None
        cluster_status: ClusterStatus | None = None
        shards: Callable[[], Awaitable[Sequence[ShardStatus]]] = partial(own.shard_status, None)
        self.homecoming: Homecoming | None = None
        if node.cluster is not None:
            if settings.tls.cert is None:
                self._peers = Peers(limits)
            else:
                secure = SecureChannels(settings, clock)
                self._peers = Peers(limits, secure, edition=secure.edition)
            calls = OnwardCalls(node.cluster.node, keys)
            hints = OwnerHints(node.cluster.node, shard_bits=own.settings.shard_bits)
            self._router = Router(
                node.cluster,
                self._peers,
                calls,
                self.lending,
                hints,
                wait_s=settings.cluster.forward_wait_s,
                message_bytes=limits.chunk_bytes + MESSAGE_HEADROOM,
            )
            self.homecoming = Homecoming(own, self._peers, calls, limits)
            status = cluster_status = ClusterStatus(node.cluster, self._peers, calls)
            shards = partial(status.look, own)
            own.watch_with(shards, look_s=LOOK_S)
            wait_s = settings.cluster.forward_wait_s
            owners = Owners(node.cluster, self._peers, calls, hints, wait_s=wait_s)
            registry.register(
                ClusterMetrics(
                    node.cluster, self._router, owners, self.homecoming, shard_bits=own.settings.shard_bits
                )
            )
            routed = RoutedNode(
                own,
                owners,
                OpenListing(node.cluster, self._peers, shard_bits=own.settings.shard_bits, wait_s=wait_s),
            )
            own.uploads.begin = routed.begin_finished
            node = cast("Node", routed)
        self.reporter = StatusReporter(own, self.health, self.metrics, clock, shards)
        single = own
        if self._gate is not None:
            # Guards, not nodes, but all that the doors use of one: a test holds the two together.
            node = cast("Node", GuardedNode(node, self._audit))
            single = cast("Node", GuardedNode(own, self._audit))
        self._node = node
        self._servicers: dict[str, object] = {
            "des.v1.NamingService": NamingServicer(node),
            "des.v1.FileService": FileServicer(
                node, self.lending, self.metrics, self.inflight.leaving, single=single
            ),
            "des.v1.ShardService": ShardServicer(node, self.inflight.leaving, cluster_status),
            "des.v1.SystemService": SystemServicer(node),
        }
        self._grpc = grpc.aio.server(
            options=channel_options(limits, share_ports=shared is not None),
            maximum_concurrent_rpcs=limits.concurrent_calls + CALLS_BEYOND_LIMIT,
        )
        self._register_all()
        self._http: HttpServer | None = None
        self._duties: list[asyncio.Task[None]] = []
        """What goes on beside the calls while the server runs."""

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            AddressInvalidError: `listen` or `http_listen` is not an address.
            AddressInUseError: one of them cannot be had; nothing is served.
        """
        wanted = Address.parse(self.settings.listen)
        http_wanted = Address.parse(self.settings.http_listen) if self.settings.http_listen else None
        if http_wanted is not None:
            app = self._http_app()
            # The HTTP port of one process of many is behind theirs, on loopback, and that one has the TLS.
            tls = self._tls if self.shared is None else None
            self._http = HttpServer(
                HttpMetrics(BodyLimit(self._gated(app)), self.registry),
                http_wanted.bind(),
                tls.http_context() if tls is not None else None,
            )
            self.http_address = http_wanted.with_port(self._http.port)
        try:
            self.address = wanted.with_port(self._bind(wanted))
            if self.shared is not None:
                self._add_port(self.shared)
        except AddressInUseError:
            if self._http is not None:
                await self._http.stop()
            raise
        await self.health.update()
        await self._grpc.start()
        if self._http is not None:
            self._http.start()
        duties = [self.health.run, self.reporter.run]
        if self.homecoming is not None:
            duties.append(self.homecoming.run)
        self._duties = [asyncio.create_task(duty()) for duty in duties]

    def _gated(self, app: FastAPI) -> ASGIApp:
        if self._gate is None:
            return app
        tell_all = self.settings.auth.health_detail or not self.settings.authenticates
        return HttpGate(app, self._gate, tell_all=tell_all)

    def _http_app(self) -> FastAPI:
        return make_app(
            self.registry,
            self.health.ready,
            [
                assign_router(self._node.assign_names, self.registry),
                file_router(self._node, self.inflight, self.metrics),
                status_router(self.reporter),
            ],
            checks=self.health.results,
        )

    async def drain(self, *, notice_s: float, within_s: float, quiet_s: float = QUIET_WAIT_S) -> bool:
        """Leave politely and return whether every call could finish.

        Readiness goes first, then, `notice_s` later, new calls are refused; those in flight have
        `within_s` to finish, and clients that keep calling are refused for `quiet_s` at most.
        """
        await self.health.leave()
        await asyncio.sleep(notice_s)
        self.inflight.close()
        try:
            async with asyncio.timeout(within_s):
                await self.inflight.wait_empty()
        except TimeoutError:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(quiet_s):
                await self.inflight.wait_quiet()
        return True

    async def stop(self) -> None:
        """Close both ports; calls still being served are cut off."""
        await self.health.leave()
        while self._duties:
            await cancelled(self._duties.pop(0))
        self.health.end_watches()
        await self._grpc.stop(STOP_GRACE_S)
        if self._peers is not None:
            await self._peers.close()
        if self._http is not None:
            await self._http.stop()
            self._http = None
        if self._audit is not None:
            self._audit.close()

    def _bind(self, wanted: Address) -> int:
        # gRPC says only that binding failed; a socket of our own says why.
        wanted.bind().close()
        return self._add_port(wanted)

    def _add_port(self, wanted: Address) -> int:
        try:
            if self._tls is not None:
                return self._grpc.add_secure_port(str(wanted), self._tls.grpc_credentials())
            return self._grpc.add_insecure_port(str(wanted))
        except RuntimeError as error:
            raise AddressInUseError(f"cannot listen on {wanted}: {error}") from error

    def _register_all(self) -> None:
        methods = Methods(self._wrapper, self._router)
        for name, service in SERVICES.items():
            methods.register(service, self._servicers[name], name=name, admit=True)
        health = health_pb2.DESCRIPTOR.services_by_name["Health"]
        methods.register(health, self.health.servicer, name=health.full_name, admit=False)
        if self.settings.auth.reflection or not self.settings.authenticates:
            reflecting = reflection.make_servicer([*SERVICES, health.full_name])
            for name in (reflection.V1, reflection.V1ALPHA):
                methods.register(reflection.descriptor(), reflecting, name=name, admit=False)
        self._grpc.add_generic_rpc_handlers((methods,))


def _lending(settings: Settings) -> ByteCredits:
    """Return the byte credits of all calls: with a share for each principal where they are told apart."""
    limits = settings.limits
    if not settings.authenticates:
        return ByteCredits(limits.bytes_in_flight, wait_s=limits.admission_wait_s)
    return SharedCredits(
        limits.bytes_in_flight,
        each=limits.principal_bytes_in_flight,
        wait_s=limits.admission_wait_s,
        who=lambda: CURRENT.get().principal.name,
    )


def build_server(
    node: Node,
    settings: Settings,
    *,
    registry: CollectorRegistry | None = None,
    clock: Clock | None = None,
    make_request_id: Callable[[], str] | None = None,
    shared: Address | None = None,
) -> DesServer:
    """Put a server together over an open node; nothing listens before `start`."""
    return DesServer(
        node,
        settings,
        registry=registry or CollectorRegistry(),
        clock=clock or SystemClock(),
        make_request_id=make_request_id or request_ids(os.urandom(6).hex()),
        shared=shared,
    )


def request_ids(start: str) -> Callable[[], str]:
    """Return a maker of ids that are unique while `start` is: one per process start."""
    numbers = itertools.count()
    return lambda: f"{start}-{next(numbers):x}"
