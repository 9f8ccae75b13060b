"""Typed clients for DES, the small-file store."""
