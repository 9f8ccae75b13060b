"""The gRPC service of DES."""
