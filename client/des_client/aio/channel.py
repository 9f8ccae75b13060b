"""One connection of an asyncio client."""

from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    naming_service_pb2_grpc,
    shard_service_pb2_grpc,
    system_service_pb2_grpc,
)
from grpc import aio

from des_client import calls
from des_client.channels import Endpoints


class Channel:
    """One connection and its calls."""

    def __init__(self, target: str, config: Endpoints) -> None:
        self.channel = (
            aio.insecure_channel(target, config.options)
            if config.credentials is None
            else aio.secure_channel(target, config.credentials, config.options)
        )
        files: file_service_pb2_grpc.FileServiceAsyncStub
        files = file_service_pb2_grpc.FileServiceStub(self.channel)
        shards: shard_service_pb2_grpc.ShardServiceAsyncStub
        shards = shard_service_pb2_grpc.ShardServiceStub(self.channel)
        names: naming_service_pb2_grpc.NamingServiceAsyncStub
        names = naming_service_pb2_grpc.NamingServiceStub(self.channel)
        system: system_service_pb2_grpc.SystemServiceAsyncStub
        system = system_service_pb2_grpc.SystemServiceStub(self.channel)
        # On the wire a stream of one message is a unary call, and this form is the cheaper one.
        self.put_whole: aio.UnaryUnaryMultiCallable[
            file_service_pb2.PutFileRequest, file_service_pb2.PutFileResponse
        ] = self.channel.unary_unary(
            calls.PUT_FILE,
            file_service_pb2.PutFileRequest.SerializeToString,
            file_service_pb2.PutFileResponse.FromString,
        )
        self.files = files
        self.names = names
        self.shards = shards
        self.system = system
