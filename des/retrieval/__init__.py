"""The read path: from a name to verified bytes (DESIGN §6)."""

from des.retrieval.batch_parts import Part, Wanted
from des.retrieval.opened_file import OpenedFile, ReadCost
from des.retrieval.retriever import Retriever
from des.retrieval.stored_containers import StoredContainers

__all__ = ["OpenedFile", "Part", "ReadCost", "Retriever", "StoredContainers", "Wanted"]
