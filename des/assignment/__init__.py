"""Name assignment: one naming core for every door (gRPC now, HTTP later)."""

from des.assignment.assigner import AssignedName, NameAssigner

__all__ = ["AssignedName", "NameAssigner"]
