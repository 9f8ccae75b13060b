"""One node in this process, served on real ports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from des_server.app import DesServer, build_server
from prometheus_client import CollectorRegistry

from des.config import Settings
from des.node import Node


@asynccontextmanager
async def serving(
    settings: Settings, *, registry: CollectorRegistry | None = None
) -> AsyncIterator[tuple[Node, DesServer]]:
    """Open a node and serve it; both are gone behind it, whatever happened."""
    node = await Node.open(settings)
    try:
        server = build_server(node, settings, registry=registry)
        await server.start()
        try:
            yield node, server
        finally:
            await server.stop()
    finally:
        await node.close()
