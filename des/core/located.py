"""Where a file of a container lies, and what proves it there."""

from dataclasses import dataclass

from des.format.hash_pages import Record
from des.format.index import IndexEntry
from des.format.layout import Layout


@dataclass(frozen=True, slots=True)
class Located:
    """Where a file lies. Never changes, since containers do not: it may be kept."""

    entry: IndexEntry
    """In v1, where a record led here, without the place of its metadata."""
    record: Record | None = None
    """None where INDEX led here."""
    digest: bytes = b""
    layout: Layout = Layout.FRAMED

    @property
    def is_bare(self) -> bool:
        """Whether the record proves the file, and its metadata is still to be found."""
        return self.record is not None and self.layout is Layout.V1
