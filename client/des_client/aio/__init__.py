"""The asyncio client, and the source that the blocking one is made from (scripts/make_sync_client.py)."""
