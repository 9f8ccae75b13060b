"""The last warnings and errors of this process, for the status page; only facts that name no file."""

import logging
import time
from collections import deque
from typing import Final

TROUBLES_MAX: Final = 50
TEXT_LENGTH_MAX: Final = 300
FACTS: Final = frozenset(
    {
        "attempts", "cause", "check", "code", "container", "error", "found", "method", "node", "owner",
        "reason", "shard", "shards", "source", "state",
    }
)  # fmt: skip
"""What is shown of an event beside its words. `message` is not: it is what a caller was told, with names."""


class RecentTroubles(logging.Handler):
    """Keeps the last events from WARNING on."""

    def __init__(self, troubles_max: int = TROUBLES_MAX) -> None:
        super().__init__(logging.WARNING)
        self._last: deque[dict[str, str | int]] = deque(maxlen=troubles_max)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one event."""
        event = record.msg if isinstance(record.msg, dict) else {"event": str(record.msg)}
        facts = [f"{key}={event[key]}" for key in sorted(FACTS & event.keys())]
        told: dict[str, str | int] = {
            "at_ms": time.time_ns() // 1_000_000,
            "level": record.levelname.lower(),
            "event": str(event.get("event", ""))[:TEXT_LENGTH_MAX],
            "facts": ", ".join(facts)[:TEXT_LENGTH_MAX],
        }
        same = self._last[-1] if self._last else None
        if same is not None and (same["event"], same["facts"]) == (told["event"], told["facts"]):
            same["at_ms"], same["times"] = told["at_ms"], int(same["times"]) + 1
        else:
            self._last.append({**told, "times": 1})

    def as_json(self) -> list[dict[str, str | int]]:
        """Return them, the last first."""
        return [dict(one) for one in reversed(self._last)]
