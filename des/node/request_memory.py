"""The memory of auto-named writes, so that a repeated one is one file."""

from collections import deque

from des.ingest.values import OpenFile


class RequestMemory:
    """Which auto-named write got which file, for as long as the log holds it.

    Rebuilt from the log at start, so a retry is recognised across a crash.
    """

    def __init__(self) -> None:
        self._files: dict[str, OpenFile] = {}
        self._order: deque[tuple[int, str]] = deque()

    def remember(self, request_id: str, file: OpenFile) -> None:
        """Keep the answer to a request."""
        self._files[request_id] = file
        self._order.append((file.seq, request_id))

    def get(self, request_id: str) -> OpenFile | None:
        """Return the file that this request made, if it is remembered."""
        return self._files.get(request_id)

    def forget_before(self, seq: int) -> None:
        """Forget requests whose records the log has given up."""
        while self._order and self._order[0][0] < seq:
            self._files.pop(self._order.popleft()[1], None)
