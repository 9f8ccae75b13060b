"""One progress bar on stderr: files, bytes, rates, time left. Off a terminal it draws nothing."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from des.cli import text

FILE_WEIGHT: Final = 16 * text.KIB
"""Bytes that storing one file more costs about as much as; keeps the time left honest over small files."""
REDRAW_S: Final = 0.1
RATE_WINDOW_S: Final = 10.0


class Meter:
    """Counts files and bytes done, and shows them when there is a bar."""

    def __init__(self, progress: Progress | None = None, title: str = "") -> None:
        self._progress = progress
        self._drawn_at = 0.0
        self._marks: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])
        self.shown = progress is not None
        """Whether anybody sees it."""
        self.files = 0
        self.size = 0
        self.expected: tuple[int, int | None] | None = None
        """Files and bytes in all; None while unknown."""
        # Last: it draws at once.
        self._task = None if progress is None else progress.add_task(title, total=None, meter=self)

    def expect(self, files: int, size: int | None) -> None:
        """Say how much there is in all; `size` is None when only the files are known."""
        self.expected = (files, size)
        self._draw()

    def add(self, *, files: int = 0, size: int = 0) -> None:
        """Count what was done; `size` may be negative, when bytes must be sent again."""
        self.files += files
        self.size += size
        if self._progress is not None and time.monotonic() - self._drawn_at >= REDRAW_S:
            self._draw()

    def rates(self) -> tuple[float, float]:
        """Return files and bytes per second over the last seconds."""
        now = time.monotonic()
        self._marks.append((now, self.files, self.size))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_WINDOW_S:
            self._marks.popleft()
        then, files, size = self._marks[0]
        elapsed_s = max(now - then, REDRAW_S)
        return (self.files - files) / elapsed_s, (self.size - size) / elapsed_s

    def _draw(self) -> None:
        if self._progress is None or self._task is None:
            return
        self._drawn_at = time.monotonic()
        total = None
        completed = self.files * FILE_WEIGHT
        if self.expected is not None:
            files, size = self.expected
            total = max(files * FILE_WEIGHT + (size or 0), 1)
            if size is not None:
                completed += max(self.size, 0)
            # What grew since it was counted must not make the bar run over its end.
            completed = min(completed, total)
        self._progress.update(self._task, completed=completed, total=total)


class _CountColumn(ProgressColumn):
    """`12,345/30,000 files  1.2/3.4 GiB`, or without the totals while they are unknown."""

    def render(self, task: Task) -> Text:
        meter: Meter = task.fields["meter"]
        if meter.expected is None:
            return Text(f"{text.files(meter.files)}  {text.size(meter.size)}")
        files, size = meter.expected
        sizes = text.size(meter.size) + ("" if size is None else f"/{text.size(size)}")
        return Text(f"{meter.files:,}/{text.files(files)}  {sizes}")


class _RateColumn(ProgressColumn):
    """`5,200 files/s  85.0 MiB/s`."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        meter: Meter = task.fields["meter"]
        files_per_s, size_per_s = meter.rates()
        return Text(f"{files_per_s:,.0f} files/s  {text.size(size_per_s)}/s", style="cyan")


class _LeftColumn(TimeRemainingColumn):
    """`01:12 left`; empty while the whole is unknown."""

    def render(self, task: Task) -> Text:
        time_left = super().render(task)
        return time_left.append(" left") if time_left.plain else time_left


@contextmanager
def metered(title: str) -> Iterator[Meter]:
    """Show a bar on stderr while the block runs, when stderr is a terminal."""
    if not sys.stderr.isatty():
        yield Meter()
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        _CountColumn(table_column=Column(no_wrap=True)),
        _RateColumn(table_column=Column(no_wrap=True)),
        _LeftColumn(compact=True, table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        transient=True,
        expand=True,
        # Lines for the same terminal go above the bar; lines for a file or a pipe must not be touched.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    )
    with progress:
        yield Meter(progress, title)
