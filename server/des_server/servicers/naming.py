"""`des.v1.NamingService`."""

from des_proto.v1.naming_service_pb2 import AssignNameRequest, AssignNameResponse
from grpc.aio import ServicerContext

from des.node import Node
from des_server import convert


class NamingServicer:
    """Hands out names."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def AssignName(  # noqa: N802  the method's name on the wire
        self, request: AssignNameRequest, _context: ServicerContext[AssignNameRequest, AssignNameResponse]
    ) -> AssignNameResponse:
        """Assign names, the same ones for a repeated request id."""
        names = await self._node.assign_names(request.count, request.prefix, request.request_id)
        return convert.names_to_wire(names)
