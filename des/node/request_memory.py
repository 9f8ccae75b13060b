"""The memory of auto-named writes, so that a repeated one is one file."""

from itertools import takewhile

from des.ingest.values import OpenFile


class RequestMemory:
    """Which auto-named write got which file, for as long as the log holds it.

    Rebuilt from the log at start, so a retry is recognised across a crash.
    """

    def __init__(self) -> None:
        self._files: dict[str, OpenFile] = {}
        """In the order of their records, but for those of one commit group."""

    def remember(self, request_id: str, file: OpenFile) -> None:
        """Keep the answer to a request."""
        self._files[request_id] = file

    def get(self, request_id: str) -> OpenFile | None:
        """Return the file that this request made, if it is remembered."""
        return self._files.get(request_id)

    def forget_before(self, seq: int) -> None:
        """Forget requests whose records the log has given up."""
        old = [key for key, _ in takewhile(lambda item: item[1].seq < seq, self._files.items())]
        for key in old:
            del self._files[key]
