"""Typed clients for DES, the small-file store.

>>> from des_client import DesClient
>>> with DesClient("127.0.0.1:7420") as des:
...     name = des.put(b"hello").file.name
...     des.get(name)
b'hello'
"""

from des_client.aio.client import AsyncDesClient
from des_client.aio.listing import AsyncFileList
from des_client.channels import TlsConfig
from des_client.errors import (
    Aborted,
    Cancelled,
    ChecksumMismatch,
    ClientClosed,
    DataLoss,
    DeadlineExceeded,
    DesClientError,
    DiskFull,
    FailedPrecondition,
    FeatureDisabled,
    FileMissing,
    Internal,
    InvalidArgument,
    NameConflict,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    RangeNotSatisfiable,
    RequestIdConflict,
    ResourceExhausted,
    StatusCode,
    Unauthenticated,
    Unavailable,
    UploadInterrupted,
    WrongLoop,
)
from des_client.items import (
    BatchProgress,
    FileOutcome,
    FilePage,
    GetItem,
    GetOutcome,
    PutItem,
    PutOutcome,
    ShardUpdate,
)
from des_client.reader import AsyncFileReader, FileReader
from des_client.retry import RetryConfig
from des_client.sync.client import DesClient
from des_client.sync.listing import FileList
from des_client.types import (
    AssignedName,
    Durability,
    FileInfo,
    FileState,
    Limits,
    ObjectStoreInfo,
    Placement,
    Progress,
    PutResult,
    SealedContainer,
    SealResult,
    ServerInfo,
    ShardInfo,
    ShardState,
)

__all__ = [
    "Aborted",
    "AssignedName",
    "AsyncDesClient",
    "AsyncFileList",
    "AsyncFileReader",
    "BatchProgress",
    "Cancelled",
    "ChecksumMismatch",
    "ClientClosed",
    "DataLoss",
    "DeadlineExceeded",
    "DesClient",
    "DesClientError",
    "DiskFull",
    "Durability",
    "FailedPrecondition",
    "FeatureDisabled",
    "FileInfo",
    "FileList",
    "FileMissing",
    "FileOutcome",
    "FilePage",
    "FileReader",
    "FileState",
    "GetItem",
    "GetOutcome",
    "Internal",
    "InvalidArgument",
    "Limits",
    "NameConflict",
    "NotFound",
    "ObjectStoreInfo",
    "PermissionDenied",
    "Placement",
    "Progress",
    "PutItem",
    "PutOutcome",
    "PutResult",
    "QuotaExceeded",
    "RangeNotSatisfiable",
    "RequestIdConflict",
    "ResourceExhausted",
    "RetryConfig",
    "SealResult",
    "SealedContainer",
    "ServerInfo",
    "ShardInfo",
    "ShardState",
    "ShardUpdate",
    "StatusCode",
    "TlsConfig",
    "Unauthenticated",
    "Unavailable",
    "UploadInterrupted",
    "WrongLoop",
]
