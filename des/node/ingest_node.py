"""What the packing of source rows asks of a node."""

from collections.abc import Callable, Sequence
from typing import Protocol

from des.db.catalog import ContainerRow
from des.files import FileInfo, FileSpec
from des.ingest.values import OpenFile
from des.node.put_result import PutResult
from des.node.upload import Upload
from des.retrieval import OpenedFile


class IngestNode(Protocol):
    """What packing asks of a node. `Node` is one."""

    def tenures(self) -> dict[int, int]:
        """Return the shards that this node serves now, each with the epoch of its lock."""
        ...

    def is_open(self, name: str) -> bool:
        """Return whether the file is in this node's log and not yet readable from a container."""
        ...

    def open_counts(self) -> dict[int, int]:
        """Return how many files each shard has open."""
        ...

    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult:
        """Write one whole file."""
        ...

    async def begin_put(self, spec: FileSpec) -> Upload:
        """Start a file that arrives in parts."""
        ...

    async def stat(self, name: str) -> FileInfo:
        """Return what is known of a file."""
        ...

    async def open_file(self, name: str) -> OpenedFile:
        """Find a file to read."""
        ...

    async def seal_shard(self, shard: int) -> list[ContainerRow]:
        """Seal what a shard holds open."""
        ...

    def on_files_stored(self, listener: Callable[[ContainerRow, Sequence[OpenFile]], None]) -> None:
        """Have `listener` told of every container that this node commits."""
        ...
