"""What the ingest log takes and gives: drafts in, open files out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a run of file bytes lies in the log."""

    segment: int
    offset: int
    """Of the first data byte, from the start of the segment file."""
    length: int
    crc32c: int
    """Of exactly these bytes; every read is checked against it."""


class FileDraft(NamedTuple):
    """A file as it is handed to the log; a tuple, since one is made for every file."""

    name: str
    day: int
    """UTC day of the name as a number, YYYYMMDD."""
    shard: int
    size: int
    crc32c: int
    """Of the whole file."""
    facts: bytes
    """What else is known of the file; opaque to the log."""
    data: bytes | None
    """The whole file when it is at most `record.DATA_MAX` long; None when its bytes lie elsewhere."""
    blocks: tuple[Extent, ...] = ()
    """What `IngestLog.append_block` returned, in file order. None here and no data: in the object store."""


@dataclass(slots=True)
class OpenFile:
    """A file in the log. There may be millions, so numbers stand in it and no object per extent."""

    name: str
    day: int
    shard: int
    seq: int
    """Of its record; ascending over the life of the node."""
    time_ms: int
    """When its group was written, UTC milliseconds since 1970."""
    size: int
    crc32c: int
    facts: bytes
    segment: int
    """That holds its record."""
    offset: int
    """Of its data in that segment; 0 when the record holds no data."""
    blocks: tuple[Extent, ...] = ()
    shipment: int = 0
    """Which shipped segment of those that this process knows holds it; 0 for none, negative once sealed."""

    @property
    def extents(self) -> tuple[Extent, ...]:
        """Where the bytes lie, in file order; empty for an empty file and for one in the object store."""
        if self.offset:
            return (Extent(self.segment, self.offset, self.size, self.crc32c),)
        return self.blocks


class DeleteDraft(NamedTuple):
    """A file that is to be deleted, as it is handed to the log."""

    name: str
    day: int
    """UTC day of the name as a number, YYYYMMDD."""
    shard: int
    external_key: str = ""
    """Object of a big file; empty for others."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """A DELETE record in the log."""

    name: str
    day: int
    """UTC day of the name as a number, YYYYMMDD."""
    shard: int
    seq: int
    time_ms: int
    """When it was written, UTC milliseconds since 1970."""
    segment: int
    """That holds the record, and stays until the catalog has the tombstone."""
    external_key: str
    """Object of a big file; empty for others."""


@dataclass(slots=True)
class Sealing:
    """The intent to seal: which records a container will hold."""

    container_id: str
    day: int
    first_shard: int
    span: int
    """Shards covered, a power of two."""
    bits: int
    """Shard bits the container is made with."""
    layout: str
    epoch: int
    """Of the shard lock the sealer holds."""
    seqs: Sequence[int]
    """Sequence numbers of the member files, ascending."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where the log is not what was written."""

    segment: int
    offset: int
    cause: str


@dataclass(slots=True)
class RecoveredLog:
    """What a log held when it was opened."""

    files: list[OpenFile] = field(default_factory=list)
    """Every file still in the log, in `seq` order, those of stored containers included."""
    sealings: list[Sealing] = field(default_factory=list)
    """Every sealing, in the order of the log."""
    pending: list[Sealing] = field(default_factory=list)
    """Sealings without a STORED record, oldest first."""
    stored: dict[str, Sealing] = field(default_factory=dict)
    """Sealings with one, by container id."""
    deleted: list[Deletion] = field(default_factory=list)
    """Every DELETE still in the log, in `seq` order."""
    floor_ms: int = 0
    """Highest clock floor recorded; 0 for none."""
    damage: list[Damage] = field(default_factory=list)
    read_only_cause: str | None = None
    """Why the log takes no writes; None when it does."""
    room_needed_bytes: int = 0
    """What the disk lacked for it to take writes; 0 where that is not the cause."""
