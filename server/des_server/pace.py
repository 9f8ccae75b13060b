"""Senders that are slow on purpose, or as good as: how much time one stream may take from others."""

from des_server.errors import StalledError


class Pace:
    """What a sender has in hand: time, spent by waiting for it, earned by bytes that came.

    Only the server's own waiting counts, so a busy server holds nothing against its clients. A sender
    that was fast for long has not saved up more than it began with.
    """

    __slots__ = ("_floor", "_grace_s", "_left_s")

    def __init__(self, floor_bytes_per_s: float, grace_s: float) -> None:
        """Expect `floor_bytes_per_s` (0: any pace will do) but for `grace_s` in all."""
        self._floor = floor_bytes_per_s
        self._grace_s = self._left_s = grace_s

    def count(self, size: int, waited_s: float) -> None:
        """Count a message of `size` bytes for which the server waited.

        Raises:
            StalledError: the sender has been slower than the floor for longer than the grace.
        """
        if not self._floor:
            return
        self._left_s = min(self._grace_s, self._left_s - waited_s + size / self._floor)
        if self._left_s < 0:
            raise StalledError(
                f"less than {self._floor:g} bytes a second arrived for more than {self._grace_s:g} s"
            )
