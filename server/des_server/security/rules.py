"""What each method needs. A method that does not stand here is refused to everyone."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from des_server.security.principal import Verb

ANYONE: Final[frozenset[Verb]] = frozenset()
"""Good credentials are enough."""

METHODS: Final[Mapping[str, frozenset[Verb]]] = MappingProxyType(
    {
        "des.v1.NamingService/AssignName": frozenset({Verb.ASSIGN}),
        "des.v1.FileService/PutFile": frozenset({Verb.WRITE}),
        "des.v1.FileService/GetFile": frozenset({Verb.READ}),
        "des.v1.FileService/BatchWriteFiles": frozenset({Verb.WRITE}),
        "des.v1.FileService/BatchReadFiles": frozenset({Verb.READ}),
        "des.v1.FileService/StatFile": frozenset({Verb.READ}),
        "des.v1.FileService/BatchStatFiles": frozenset({Verb.READ}),
        "des.v1.FileService/ListFiles": frozenset({Verb.LIST}),
        "des.v1.FileService/DeleteFile": frozenset({Verb.DELETE}),
        "des.v1.FileService/BatchDeleteFiles": frozenset({Verb.DELETE}),
        "des.v1.FileService/WaitStored": frozenset({Verb.READ, Verb.WRITE}),
        "des.v1.FileService/StartUpload": frozenset({Verb.WRITE}),
        "des.v1.FileService/GetUploadStatus": frozenset({Verb.WRITE}),
        "des.v1.FileService/CancelUpload": frozenset({Verb.WRITE}),
        "des.v1.ShardService/ShardStatus": frozenset({Verb.SHARDS}),
        "des.v1.ShardService/WatchShardStatus": frozenset({Verb.SHARDS}),
        "des.v1.ShardService/SealShard": frozenset({Verb.ADMIN}),
        "des.v1.SystemService/GetServerInfo": ANYONE,
    }
)
"""Verbs, one of which must be granted somewhere before the first message is read. Which names it is granted
on is looked at where the names are known (`GuardedNode`)."""
