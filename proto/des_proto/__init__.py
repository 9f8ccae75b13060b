"""Wire messages and gRPC stubs of DES."""
