"""The blocking client; all that is not its own transport is made from `des_client.aio`."""
