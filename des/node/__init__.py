"""A node: log, packer and retrieval put together over one set of settings."""

from des.node.cluster_side import ClusterSide
from des.node.node import Node, NodeHealth
from des.node.put_result import PutResult
from des.node.shard_status import ShardNotFoundError, ShardStatus
from des.node.upload import Upload

__all__ = ["ClusterSide", "Node", "NodeHealth", "PutResult", "ShardNotFoundError", "ShardStatus", "Upload"]
