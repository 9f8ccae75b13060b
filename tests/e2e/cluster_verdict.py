"""What a torture of a cluster counted, and what it found wrong."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from des.testing.history import Event

if TYPE_CHECKING:
    from tests.e2e.cluster_traffic import Traffic

SHOWN: Final = 5
"""Names of which everything is told that clients were told."""


class Kind(StrEnum):
    """What can be wrong. The first three are counted in names."""

    LOST = "lost"
    """Acknowledged, deleted by nobody, and not there at the end."""
    DOUBLED = "doubled"
    """In more than one container."""
    TOLD_WRONG = "told wrong"
    """Clients were told what no store may say: absent, other bytes, deleted and read again."""
    REFUSED = "calls refused"
    """A call failed with an error that no fault explains: one of those that no retry mends."""
    EPOCH = "epochs gone back"
    WATCH = "shards told wrong"
    """Who followed the shards all the time knows something else of them than their owners."""
    FSCK = "fsck"
    """What `des fsck --read-data` said."""


OF_NAMES: Final = (Kind.LOST, Kind.DOUBLED, Kind.TOLD_WRONG)


@dataclass
class Verdict:
    """Of one schedule of faults."""

    seed: int
    planned: int
    """Faults of the schedule."""
    traffic: "Traffic"
    faults: list[str] = field(default_factory=list)
    """Names of those that happened."""
    judged: bool = False
    """Whether everything was looked at; findings before that are not all."""
    findings: dict[Kind, list[tuple[str, str]]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    """A name, empty where it is not about one, and what is wrong."""

    def find(self, kind: Kind, findings: Iterable[tuple[str, str]]) -> None:
        """Note what is wrong."""
        self.findings[kind] += findings

    def is_clean(self) -> bool:
        """Whether all was looked at, and nothing is wrong."""
        return self.judged and not any(self.findings.values())

    def names(self, kind: Kind) -> set[str]:
        """Return the names about which something of a kind is wrong."""
        return {name for name, _ in self.findings[kind] if name}

    @property
    def acknowledged(self) -> int:
        """How many names were acknowledged."""
        return len(self.traffic.acknowledged)

    def lines(self) -> list[str]:
        """Return what was counted, and of what; what could not be counted any more is not zero."""
        traffic = self.traffic
        found = (
            [f"{len(self.names(kind))} {kind}" for kind in OF_NAMES]
            if self.judged
            else ["the rest not looked at"]
        )
        other = [f"{len(self.findings[kind])} {kind}" for kind in (Kind.REFUSED, Kind.EPOCH, Kind.WATCH)]
        fsck = "not run" if not self.judged else "found something" if self.findings[Kind.FSCK] else "clean"
        counted = (
            f"seed {self.seed}: 1 schedule, {len(self.faults)} of {self.planned} faults; "
            f"{sum(traffic.kinds.values())} calls, {len(traffic.events)} answers about names, "
            f"{sum(traffic.failures.values())} failures after all retries"
        )
        names = (
            f"names: {self.acknowledged} acknowledged ({len(traffic.stored)} as stored), "
            f"{len(traffic.deleted)} deleted, {', '.join(found)}"
        )
        return [
            counted,
            names,
            f"besides: {', '.join(other)}, fsck {fsck}",
            f"faults: {_counts(Counter(self.faults))}",
            f"calls: {_counts(traffic.kinds)}",
            f"failures (of calls, and of files in batches): {_counts(traffic.failures)}",
            f"slowest call: {traffic.slowest_s:.1f} s",
            *(f"last {kind}: {said[:300]}" for kind, said in sorted(traffic.last_failures.items())),
        ]

    def told(self) -> str:
        """Return what is wrong, and of the first few names all that clients were told."""
        said: list[str] = [] if self.judged else ["not everything was looked at"]
        for kind, findings in self.findings.items():
            if findings:
                of = f" about {len(self.names(kind))} names" if kind in OF_NAMES else ""
                said.append(f"{kind}: {len(findings)} findings{of}, the first of them:")
                said += [f"  {name}: {why}" if name else f"  {why}" for name, why in findings[:SHOWN]]
        first = list(dict.fromkeys(name for kind in OF_NAMES for name, _ in self.findings[kind]))[:SHOWN]
        for name in first:
            said.append(f"{name}:")
            said += [f"  {_of(event)}" for event in self.traffic.events if event.name == name]
        return "\n".join(said)

    def write_history(self, path: Path) -> None:
        """Write all that clients were told, a line of JSON for each answer, with UTC seconds."""
        with path.open("w") as file:
            for event in self.traffic.events:
                row = dataclasses.asdict(event) | {"began": _utc(event.began), "ended": _utc(event.ended)}
                file.write(json.dumps(row) + "\n")


def _utc(monotonic_s: float) -> float:
    return time.time() - time.monotonic() + monotonic_s


def _of(event: Event) -> str:
    began, ended = (datetime.fromtimestamp(_utc(at), UTC) for at in (event.began, event.ended))
    return f"{began:%T.%f} to {ended:%T.%f} {event.call} {event.answer} {event.content[:8]}".rstrip()


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counter.most_common()) or "none"
