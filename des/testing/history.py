"""Checks what clients saw of a store against what a store may do.

Each name is a register that is written once, read, and perhaps deleted. A call whose outcome nobody
knows (no reply, UNAVAILABLE, a deadline) may have happened at any moment after it began, or never. What
was answered must fit: some order of all calls, each between its beginning and its end, explains every
answer. For such a register that order exists exactly when a few rules hold, so the check is a walk over
the history and not a search (compare Wing & Gong 1993, Lowe 2017; the search is for objects that
remember more).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Call(StrEnum):
    """What a client asked."""

    PUT = "put"
    GET = "get"
    DELETE = "delete"
    LIST = "list"
    """Of all files: an event for each name of which it said something."""
    STAT = "stat"


_SHOWING: Final = (Call.LIST, Call.STAT)


class Answer(StrEnum):
    """What it was told."""

    DONE = "done"
    """Of a put or delete: it happened. Of a get: here are the bytes. Of a list or stat: the file is there."""
    ABSENT = "absent"
    """There is no such file, or it was deleted."""
    REFUSED = "refused"
    """Of a put: the name has other content, or was deleted."""
    UNKNOWN = "unknown"
    """It may have happened, or may still, or not."""


@dataclass(frozen=True, slots=True)
class Event:
    """One call of one client."""

    name: str
    call: Call
    answer: Answer
    began: float
    """Seconds, on one clock for all clients."""
    ended: float
    content: str = ""
    """Digest of what was put or read; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What no store may do, seen at one name; a name may have several."""

    name: str
    why: str
    """What was seen, after the name in a sentence."""

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


def violations(events: Iterable[Event]) -> list[Violation]:
    """Return what no store may do, by name; nothing for a history that is explained."""
    by_name: dict[str, list[Event]] = {}
    for event in events:
        by_name.setdefault(event.name, []).append(event)
    return [Violation(name, why) for name in sorted(by_name) for why in _of_name(by_name[name])]


def _of_name(events: list[Event]) -> list[str]:
    found: list[str] = []
    puts = [event for event in events if event.call is Call.PUT and event.answer is not Answer.REFUSED]
    done = [put for put in puts if put.answer is Answer.DONE]
    if len({put.content for put in done}) > 1:
        found.append(f"two contents were acknowledged: {sorted({put.content for put in done})}")
    gets = [event for event in events if event.call is Call.GET and event.answer is Answer.DONE]
    seen = {get.content for get in gets}
    if len(seen) > 1:
        found.append(f"two contents were read: {sorted(seen)}")
    if done and seen - {put.content for put in done}:
        found.append("other bytes were read than acknowledged")
    if not all(any(put.content == get.content and put.began < get.ended for put in puts) for get in gets):
        found.append("bytes were read that nobody had begun to put")
    return found + _of_deletes(events, done=done, gets=gets)


def _of_deletes(events: list[Event], *, done: list[Event], gets: list[Event]) -> list[str]:
    found: list[str] = []
    # Visible at the latest when a put was acknowledged or a read gave the file; until the earliest moment
    # at which a delete may have begun to work.
    shown = [event for event in events if event.call in _SHOWING and event.answer is Answer.DONE]
    shown_at = min((event.ended for event in [*done, *gets, *shown]), default=None)
    deletes = [event for event in events if event.call is Call.DELETE and event.answer is not Answer.REFUSED]
    deletes_begin = min((event.began for event in deletes if event.answer is not Answer.ABSENT), default=None)
    deleted_at = min((event.ended for event in deletes if event.answer is Answer.DONE), default=None)
    for event in events:
        gone = event.answer is Answer.ABSENT and shown_at is not None and event.began > shown_at
        if gone and (deletes_begin is None or deletes_begin > event.ended):
            found.append(f"was acknowledged or read, and later absent for a {event.call}")
        late = event.answer is Answer.DONE and deleted_at is not None and event.began > deleted_at
        if late and event.call is Call.GET:
            found.append("was deleted, and later read")
        if late and event.call in _SHOWING:
            found.append(f"was deleted, and later there for a {event.call}")
        if late and event.call is Call.PUT:
            found.append("was deleted, and later acknowledged again")
    # A read that found the file gone says that a delete had worked by then: the file stays gone.
    absent_after_shown = min(
        (
            event.ended
            for event in events
            if event.answer is Answer.ABSENT
            and event.call is Call.GET
            and shown_at is not None
            and event.began > shown_at
        ),
        default=None,
    )
    if absent_after_shown is not None and any(get.began > absent_after_shown for get in gets):
        found.append("was gone, and later read")
    return found


def lost(events: Iterable[Event]) -> list[str]:
    """Return the names that were acknowledged, which nobody tried to delete, and whose last read failed."""
    by_name: dict[str, list[Event]] = {}
    for event in events:
        by_name.setdefault(event.name, []).append(event)
    gone: list[str] = []
    for name, of_name in sorted(by_name.items()):
        acknowledged = any(e.call is Call.PUT and e.answer is Answer.DONE for e in of_name)
        if not acknowledged or any(e.call is Call.DELETE for e in of_name):
            continue
        gets = sorted((e for e in of_name if e.call is Call.GET), key=lambda event: event.ended)
        if not gets or gets[-1].answer is not Answer.DONE:
            gone.append(name)
    return gone
