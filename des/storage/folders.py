"""Folders whose names survive a crash, and a lock on one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_folders(root: Path, folder: Path) -> None:
    """Make `folder` under `root`, with its parents; `sync_folders` makes their names durable."""
    for parent in (*reversed(folder.parents), folder):
        if parent.is_relative_to(root):
            parent.mkdir(mode=0o700, exist_ok=True)


def sync_folders(root: Path, folder: Path) -> None:
    """Sync a folder and those above it up to `root`: another process may have made one just now."""
    while folder != root:
        sync_folder(folder)
        folder = folder.parent
    sync_folder(root)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the device."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a lock that other threads and processes respect, and that the death of ours releases."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
