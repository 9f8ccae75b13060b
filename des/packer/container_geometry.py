"""Where the sections of a container lie, as its row in the catalog has it."""

from des.db.catalog import ContainerGeometry
from des.format.ext import ExtGeometry
from des.format.footer import Footer


def geometry_of(footer: Footer, ext: ExtGeometry | None, *, size: int) -> ContainerGeometry:
    """Return the columns of a container of `size` bytes; those of EXT are 0 where it has no HASHPAGES."""
    return ContainerGeometry(
        size=size,
        data_start=footer.data_start,
        data_length=footer.data_length,
        meta_start=footer.meta_start,
        meta_length=footer.meta_length,
        index_start=footer.index_start,
        index_length=footer.index_length,
        file_count=footer.file_count,
        ext_table_start=ext.table_start if ext else 0,
        pages_start=ext.pages.start if ext else 0,
        pages_length=ext.pages.length if ext else 0,
        page_count=ext.pages.page_count if ext else 0,
    )
