"""Reading a store's objects through fsspec, without a server."""
