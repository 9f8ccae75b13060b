"""One file per gRPC service: convert, call, convert."""
