"""The audit log: one JSON line for every change and every refusal.

Lines are appended to a file of mode 0600, which only grows; a line is one write, so processes that share it
do not mix theirs. It is not synced: a machine that loses power may lose the last lines, not the files they
speak of. No credential stands in it.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from des.clock import Clock
from des.errors import DesError
from des_server.security.principal import CURRENT

NAME_CHARACTERS_MAX: Final = 512
_log = structlog.get_logger(__name__)


class AuditFileError(DesError):
    """The audit log cannot be opened."""


class AuditLog:
    """Appends to one file until closed."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open the file, and make it where there is none.

        Raises:
            AuditFileError: it cannot be had; a server that shall keep one does not start without.
        """
        self._path = path
        self._clock = clock
        self.failures = 0
        """Lines that could not be written."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise AuditFileError(f"cannot open the audit log {path}: {error.strerror}") from error

    def change(self, verb: str, name: str, error: BaseException | None = None) -> None:
        """Write down what became of a change that the running call asked for."""
        call = CURRENT.get()
        self.write(
            principal=call.principal.name,
            method=call.method,
            request_id=call.request_id,
            verb=verb,
            name=name,
            result=_result(error),
        )

    def write(
        self, *, principal: str, method: str, request_id: str, verb: str, name: str, result: str
    ) -> None:
        """Append one line. A disk that takes none is told to the log, not to the caller."""
        at = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).isoformat(timespec="milliseconds")
        line = json.dumps(
            {
                "time": at,
                "principal": principal,
                "method": method,
                "verb": verb,
                "name": name[:NAME_CHARACTERS_MAX],
                "result": result,
                "request_id": request_id,
            }
        )
        try:
            os.write(self._file, line.encode() + b"\n")
        except OSError as error:
            self.failures += 1
            _log.error("audit line lost", file=str(self._path), error=error.strerror, lost=self.failures)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _result(error: BaseException | None) -> str:
    if error is None:
        return "OK"
    return error.reason if isinstance(error, DesError) else type(error).__name__
