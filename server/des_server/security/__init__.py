"""Who calls, and what they may do. The node knows none of it."""
