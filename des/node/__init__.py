"""A node: log, packer and retrieval put together over one set of settings."""

from des.node.node import Node, NodeHealth, ShardStatus
from des.node.put_result import PutResult
from des.node.upload import Upload

__all__ = ["Node", "NodeHealth", "PutResult", "ShardStatus", "Upload"]
