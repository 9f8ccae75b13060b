"""`des.v1.SystemService`."""

from des_proto.v1.system_service_pb2 import GetServerInfoRequest, GetServerInfoResponse
from grpc.aio import ServicerContext

from des.node import Node
from des_server import convert


class SystemServicer:
    """Says what this server is."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def GetServerInfo(  # noqa: N802  the method's name on the wire
        self,
        _request: GetServerInfoRequest,
        _context: ServicerContext[GetServerInfoRequest, GetServerInfoResponse],
    ) -> GetServerInfoResponse:
        """Return version, limits and what the object store honours."""
        return convert.server_info_to_wire(self._node, await self._node.capabilities())
