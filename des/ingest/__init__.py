"""The ingest log: the only thing a put waits for."""
