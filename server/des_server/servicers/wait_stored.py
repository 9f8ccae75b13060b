"""WaitStored: files put with durability `local`, once they are stored."""

from des_proto.v1.file_service_pb2 import StatResult, WaitStoredRequest, WaitStoredResponse

from des.errors import DesError, InvalidInputError
from des.node import Node
from des_server import convert
from des_server.status import item_status


async def wait_stored(node: Node, request: WaitStoredRequest) -> WaitStoredResponse:
    """Return when every file is stored or known not to be in time, each answered for itself.

    Raises:
        InvalidInputError: more names than one call may have.
        DisabledError: this store does not serve it.
    """
    limit = node.settings.limits.batch_items
    if len(request.names) > limit:
        raise InvalidInputError(f"{len(request.names)} names, at most {limit} are allowed", field="names")
    response = WaitStoredResponse()
    for outcome in await node.wait_stored(request.names):
        if isinstance(outcome, DesError):
            response.results.append(StatResult(status=item_status(outcome)))
        else:
            response.results.append(StatResult(file=convert.file_to_wire(outcome, full=False)))
    return response
