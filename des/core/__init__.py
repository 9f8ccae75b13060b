"""Containers as things to write and to read."""

from des.core.container_index import ContainerIndex
from des.core.reader import DesReader
from des.core.s3_reader import S3DesReader
from des.core.writer import DesWriter

__all__ = ["ContainerIndex", "DesReader", "DesWriter", "S3DesReader"]
