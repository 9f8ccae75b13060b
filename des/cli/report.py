"""What a verb over many items prints, and the exit code the items add up to."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import typer

from des.cli import text
from des.cli.exits import Exit, Failure


def print_json(record: Mapping[str, Any]) -> None:
    """Print one object as one line, at once."""
    # ASCII: a path's undecodable bytes travel as lone surrogates, "\udc80" to "\udcff".
    print_line(json.dumps(record, separators=(",", ":")))


def print_line(line: str) -> None:
    """Print one line to stdout, at once: a reader in a pipe sees it when it happened."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say(message: str) -> None:
    """Tell the user something that is no result: one line on stderr."""
    sys.stderr.write(f"des: {message}\n")
    sys.stderr.flush()


class Report:
    """Prints items as they end and keeps count."""

    def __init__(self, *, as_json: bool, lines: bool = True) -> None:
        self._as_json = as_json
        self._lines = lines
        self.done_count = 0
        self.done_size = 0
        self.failures: Counter[Exit] = Counter()
        self.skipped: Counter[str] = Counter()

    def done(self, record: Mapping[str, Any], line: str, *, size: int, explicit: bool = True) -> None:
        """Print an item that succeeded: `record` for scripts, `line` for people.

        On a terminal a line is printed for what the user named one by one (`explicit`); a folder of a million
        files shows its progress instead.
        """
        self.done_count += 1
        self.done_size += size
        if self._as_json:
            print_json(record)
        elif self._lines or explicit:
            print_line(line)

    def failed(self, what: Mapping[str, str], failure: Failure) -> None:
        """Print an item that failed; `what` names it, its last value for people."""
        self.failures[failure.code] += 1
        if self._as_json:
            print_json({**what, "error": str(failure), "reason": failure.reason})
        else:
            say(f"{text.escape(list(what.values())[-1])}: {failure}")

    def skip(self, why: str) -> None:
        """Count something that was passed over on purpose."""
        self.skipped[why] += 1

    @property
    def failed_count(self) -> int:
        """How many items failed."""
        return self.failures.total()

    @property
    def total_count(self) -> int:
        """How many items were looked at."""
        return self.done_count + self.failed_count + self.skipped.total()

    def exit_code(self) -> Exit:
        """Return the code for the whole: the failures' own where all failed for one cause, else FAILED."""
        if not self.failures:
            return Exit.OK
        if self.done_count == 0 and len(self.failures) == 1:
            return next(iter(self.failures))
        return Exit.FAILED

    def end(self) -> None:
        """Leave the verb with the exit code of the whole, if that is not OK."""
        if code := self.exit_code():
            raise typer.Exit(code)

    def summary(self, verb: str, elapsed_s: float) -> str:
        """Return one line about the whole."""
        rate = f"{self.done_count / max(elapsed_s, 0.001):,.0f} files/s"
        speed = f"{text.size(self.done_size / max(elapsed_s, 0.001))}/s"
        done = f"{text.files(self.done_count)}, {text.size(self.done_size)}"
        parts = [f"{verb} {done} in {elapsed_s:.1f} s ({rate}, {speed})"]
        if self.failures:
            parts.append(f"{self.failed_count:,} failed")
        parts += [f"{count:,} {why}" for why, count in sorted(self.skipped.items())]
        return "; ".join(parts)
