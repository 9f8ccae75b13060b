"""What the service asks of a node. Stands here until `des.node` has it."""

# ruff: noqa: D102  the docstrings stand at `des.node.Node`

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import InvalidInputError
from des.files import Durability, FileInfo, FileSpec
from des.storage.object_store import Capabilities


class FileTooLargeError(InvalidInputError):
    """More bytes than a file may have."""

    reason = "FILE_TOO_LARGE"


class UploadSizeMismatchError(InvalidInputError):
    """The stream held more or fewer bytes than were declared."""

    reason = "UPLOAD_SIZE_MISMATCH"


class UploadChecksumMismatchError(InvalidInputError):
    """The bytes that arrived are not those the client summed."""

    reason = "UPLOAD_CHECKSUM_MISMATCH"


@dataclass(frozen=True, slots=True)
class AssignedName:
    """A name and where it belongs."""

    name: str
    shard: int
    day: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """The answer to a write."""

    file: FileInfo
    already_existed: bool
    durability: Durability


@dataclass(frozen=True, slots=True)
class ReadCost:
    """What a read asked of the object store."""

    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What is known about a shard."""

    shard: int
    state: str
    owner: str
    epoch: int
    open_files: int
    open_bytes: int
    stored_files: int
    stored_bytes: int
    containers: int
    oldest_open_age_s: float | None
    last_seal_ms: int | None
    last_heartbeat_ms: int | None
    last_error: str


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What a node can do now."""

    writable: bool
    readable: bool
    cause: str


class Upload(Protocol):
    """A file on its way in."""

    @property
    def received(self) -> int: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self, crc32c: int | None, sha256: bytes | None = None) -> PutResult: ...
    async def abort(self) -> None: ...


class OpenedFile(Protocol):
    """A file that can be read."""

    @property
    def info(self) -> FileInfo: ...
    @property
    def cost(self) -> ReadCost: ...
    def read(self, start: int, stop: int) -> AsyncIterator[bytes]: ...
    async def read_whole(self) -> bytes: ...


class Node(Protocol):
    """One store process."""

    @property
    def settings(self) -> Settings: ...
    @property
    def store_id(self) -> str: ...
    @property
    def started_ms(self) -> int: ...
    @property
    def revision(self) -> int: ...
    async def close(self) -> None: ...
    async def assign_names(self, count: int, prefix: str, request_id: str) -> list[AssignedName]: ...
    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult: ...
    async def begin_put(self, spec: FileSpec) -> Upload: ...
    async def open_file(self, name: str) -> OpenedFile: ...
    async def stat(self, name: str) -> FileInfo: ...
    async def shard_status(self, shards: Sequence[int] | None) -> list[ShardStatus]: ...
    async def seal_shard(self, shard: int) -> list[ContainerRow]: ...
    async def capabilities(self) -> Capabilities: ...
    def health(self) -> NodeHealth: ...
