"""The container format, as pure code: bytes in, values out, no I/O (docs/format.md)."""
