"""The read path: from a name to verified bytes (DESIGN §6)."""

from des.retrieval.opened_file import OpenedFile, ReadCost
from des.retrieval.retriever import Retriever
from des.retrieval.stored_containers import StoredContainers

__all__ = ["OpenedFile", "ReadCost", "Retriever", "StoredContainers"]
