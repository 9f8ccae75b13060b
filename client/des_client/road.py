"""The way of one call, over all its attempts."""


class Road:
    """Where the calls about one file go, over all their attempts."""

    __slots__ = ("at", "is_read", "name", "node", "strayed", "told")

    def __init__(self, name: str, *, is_read: bool = False) -> None:
        """Begin; `name` is empty for a file that gets one by the call."""
        self.name = name
        self.is_read = is_read
        """Whether any node could answer, were the file stored."""
        self.node = ""
        """Who has what the calls are about, whoever owns the shard: of an upload."""
        self.at = 0
        """Connection of the last attempt."""
        self.told = ""
        """Who gave the last answer, as far as it said or is known."""
        self.strayed = False
        """An attempt failed: the next ones take turns."""
