"""Server reflection, v1 and v1alpha: grpcurl and buf curl need no proto file.

grpcio-reflection has only v1alpha (grpc/grpc#38576). The two protocols are the same messages under
two package names, so one servicer answers both; the v1 descriptors are made from the others.
"""

from typing import Final

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1: Final = "grpc.reflection.v1.ServerReflection"
V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"


def make_servicer(services: list[str]) -> "reflection.aio.ReflectionServicer":
    """Return a servicer that lists `services`, both of its own names, and describes everything."""
    pool = descriptor_pool.Default()
    _add_v1(pool)
    return reflection.aio.ReflectionServicer([*services, V1, V1ALPHA], pool=pool)


def descriptor() -> ServiceDescriptor:
    """Return the service's descriptor; its messages serve both versions."""
    service: ServiceDescriptor = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    return service


def _add_v1(pool: descriptor_pool.DescriptorPool) -> FileDescriptor:
    """Describe v1 too, unless somebody else in the process has done it."""
    try:
        return pool.FindFileContainingSymbol(V1)
    except KeyError:
        pass
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = text_format.MessageToString(alpha)
    text = (
        text.replace("grpc.reflection.v1alpha", "grpc.reflection.v1")
        .replace("grpc/reflection/v1alpha", "grpc/reflection/v1")
        .replace("grpc_reflection/v1alpha", "grpc/reflection/v1")
    )
    file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    pool.Add(file)
    return pool.FindFileContainingSymbol(V1)
