"""The methods of all services as gRPC finds them: by path, each behind its wrappers."""

from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from des_server.cluster.router import Router
from des_server.interceptors.calls import CallWrapper, Handler, does_end_with_status, readable, serialized
from des_server.servicers.disabled import disabled


class Methods(grpc.GenericRpcHandler):
    """All methods behind one look-up.

    Not `add_registered_method_handlers`: for each method so registered the library keeps a pending
    request, and every call waits for all of them anew: with 27 methods a third of a small call's cost.
    """

    def __init__(self, wrapper: CallWrapper, router: Router | None) -> None:
        """`wrapper` goes around every method; `router`, in a cluster, sends calls on to the owners."""
        self._wrapper = wrapper
        self._router = router
        self._by_path: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the handler of a path; None answers UNIMPLEMENTED."""
        return self._by_path.get(handler_call_details.method)

    def register(self, service: ServiceDescriptor, servicer: object, *, name: str, admit: bool) -> None:
        """Register every method of a service under `name`, those that the servicer lacks as disabled.

        `admit` holds its calls to the limits of calls; health and reflection are beyond them.
        """
        for method in service.methods:
            handler = getattr(servicer, method.name, None) or disabled(method)
            if self._router is not None:
                handler = self._router.wrap(
                    handler,
                    path=f"/{name}/{method.name}",
                    client_stream=method.client_streaming,
                    server_stream=method.server_streaming,
                )
            wrapped = self._wrapper.wrap(
                handler,
                service=name,
                method=method.name,
                client_stream=method.client_streaming,
                server_stream=method.server_streaming,
                admit=admit,
            )
            self._by_path[f"/{name}/{method.name}"] = _method_handler(
                method, wrapped, many_responses=method.server_streaming and not does_end_with_status(handler)
            )


def _method_handler(
    method: MethodDescriptor, handler: Handler, *, many_responses: bool
) -> "grpc.RpcMethodHandler[Any, Any]":
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, many_responses]
    request = message_factory.GetMessageClass(method.input_type)
    return make(handler, request_deserializer=readable(request.FromString), response_serializer=serialized)
