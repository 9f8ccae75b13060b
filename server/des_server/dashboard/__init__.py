"""The page that shows how a node is: `/status`, over `/status.json`."""
