"""Changes of a disk that no sync has covered, and which of them a crash keeps."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Final, TypeAlias, TypeVar

SECTOR: Final = 512
"""Bytes that reach the device together or not at all."""

T = TypeVar("T")


class Loss(StrEnum):
    """Which unsynced changes a crash keeps."""

    ALL = "all"
    """Keeps everything."""
    NONE = "none"
    PREFIX = "prefix"
    """Keeps what came first."""
    SUBSET = "subset"
    ONE = "one"
    """Keeps all but one."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written to a file."""

    offset: int
    data: bytes

    def sectors(self) -> Iterable["Write"]:
        """Return the parts that reach the device together or not at all."""
        start, stop = self.offset, self.offset + len(self.data)
        while start < stop:
            edge = min(stop, (start // SECTOR + 1) * SECTOR)
            yield Write(start, self.data[start - self.offset : edge - self.offset])
            start = edge

    def apply(self, content: bytearray) -> None:
        """Change `content`."""
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class Resize:
    """A file cut, or extended with zeros."""

    size: int

    def sectors(self) -> Iterable["Resize"]:
        """Return itself: a length changes whole."""
        return (self,)

    def apply(self, content: bytearray) -> None:
        """Change `content`."""
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


Change: TypeAlias = Write | Resize


@dataclass(slots=True, eq=False)
class Inode:
    """A file, whatever its names."""

    content: bytearray = field(default_factory=bytearray)
    """What programs see."""
    durable: bytearray = field(default_factory=bytearray)
    """What is on the device."""
    dirty: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        """Let programs see a change that no sync has covered."""
        change.apply(self.content)
        self.dirty.append(change)

    def settle(self, kept: Iterable[Change]) -> None:
        """Put these changes on the device and forget the others."""
        for change in kept:
            change.apply(self.durable)
        self.dirty.clear()

    def sectors(self) -> list[Change]:
        """Return what no sync has covered, in the parts that may reach the device alone."""
        return [sector for change in self.dirty for sector in change.sectors()]


@dataclass(frozen=True, slots=True)
class Naming:
    """One change of names, whole or not at all: a rename takes one name away and gives another."""

    names: dict[str, Inode | None]

    def apply(self, names: dict[str, Inode]) -> None:
        """Change `names`."""
        for path, inode in self.names.items():
            if inode is None:
                names.pop(path, None)
            else:
                names[path] = inode

    def in_folder(self, folder: str) -> bool:
        """Whether a name of the folder changes."""
        return any(os.path.dirname(path) == folder for path in self.names)  # noqa: PTH120  plain strings


def survivors(changes: Sequence[T], loss: Loss | None, rng: Random) -> list[T]:
    """Return the changes that reach the device, in order; without a `loss` the seed chooses."""
    if not changes:
        return []
    match loss or rng.choice(list(Loss)):
        case Loss.ALL:
            return list(changes)
        case Loss.NONE:
            return []
        case Loss.PREFIX:
            return list(changes[: rng.randrange(len(changes) + 1)])
        case Loss.SUBSET:
            return [change for change in changes if rng.random() < 0.5]
        case Loss.ONE:
            lost = rng.randrange(len(changes))
            return [change for index, change in enumerate(changes) if index != lost]
