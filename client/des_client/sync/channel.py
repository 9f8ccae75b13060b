"""One connection of a blocking client."""

import grpc
from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    naming_service_pb2_grpc,
    shard_service_pb2_grpc,
    system_service_pb2_grpc,
)

from des_client import calls
from des_client.channels import Endpoints


class Channel:
    """One connection and its calls."""

    def __init__(self, target: str, config: Endpoints) -> None:
        # Downloads then run on the caller's own thread, without gRPC's "channel spin" thread.
        options = (*config.options, ("SingleThreadedUnaryStream", 1))
        self.channel = (
            grpc.insecure_channel(target, options)
            if config.credentials is None
            else grpc.secure_channel(target, config.credentials, options)
        )
        self.files = file_service_pb2_grpc.FileServiceStub(self.channel)
        self.names = naming_service_pb2_grpc.NamingServiceStub(self.channel)
        self.shards = shard_service_pb2_grpc.ShardServiceStub(self.channel)
        self.system = system_service_pb2_grpc.SystemServiceStub(self.channel)
        # On the wire a stream of one message is a unary call, and this form needs no thread to feed it.
        self.put_whole: grpc.UnaryUnaryMultiCallable[
            file_service_pb2.PutFileRequest, file_service_pb2.PutFileResponse
        ] = self.channel.unary_unary(
            calls.PUT_FILE,
            file_service_pb2.PutFileRequest.SerializeToString,
            file_service_pb2.PutFileResponse.FromString,
        )
