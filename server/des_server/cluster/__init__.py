"""Calls between the nodes of a cluster (docs/cluster.md)."""
