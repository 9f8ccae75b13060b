"""Compares what the catalog says with what the object store holds; changes nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from des.core import S3DesReader
from des.db.catalog import Catalog, ContainerRow, ContainerState
from des.db.rows import LogSegmentState
from des.errors import DesError
from des.format.name_key import hash_of, name_digest
from des.storage.object_store import ObjectInfo, ObjectStore
from des.upkeep.examine import Depth, Verdict, examine, verdict_of
from des.upkeep.latecomers import add_latecomers
from des.upkeep.object_keys import ObjectKind, parse_key

UNSETTLED_MS: Final = 3600 * 1000
"""An upload not recorded for this long is worth a look."""
NAMES_SHOWN: Final = 20
"""Doubled names that are told one by one, of each day."""


class Kind(StrEnum):
    """What is wrong, or worth knowing."""

    MISSING = "missing"
    """A row names an object that is not there."""
    CORRUPT = "corrupt"
    CHANGED = "changed"
    """Another object lies under a row's key."""
    UNDECIDED = "undecided"
    """It could not be read: nothing is known."""
    DOUBLED = "doubled"
    """A file is in two recorded containers."""
    DANGLING = "dangling"
    """A container names a big file's object that is not there."""
    UNSETTLED = "unsettled"
    """A container was announced long ago and is not recorded; its node finishes it when it runs."""
    UNRECORDED = "unrecorded"
    """A container that no row names: garbage, or a lost row (`des rebuild-catalog`)."""
    UNNAMED = "unnamed"
    """A big file that no container and no tombstone names: still in a log, or left by a broken upload."""
    FOREIGN = "foreign"
    """An object whose key is none of ours."""


NOTES: Final = frozenset({Kind.UNSETTLED, Kind.UNRECORDED, Kind.UNNAMED, Kind.FOREIGN})
"""Kinds that are no defect of the store."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found."""

    kind: Kind
    key: str
    detail: str

    @property
    def is_problem(self) -> bool:
        """Whether acknowledged files are, or may be, affected."""
        return self.kind not in NOTES


@dataclass(slots=True)
class FsckReport:
    """What a check of the whole store gave."""

    findings: list[Finding] = field(default_factory=list)
    containers: int = 0
    """Recorded containers that were looked at."""
    files: int = 0
    bytes: int = 0
    """Of the containers looked at."""
    objects: int = 0
    """In the listing."""

    @property
    def problems(self) -> list[Finding]:
        """Those that may affect files."""
        return [one for one in self.findings if one.is_problem]


_OF_VERDICT: Final[Mapping[Verdict, Kind]] = {
    Verdict.MISSING: Kind.MISSING,
    Verdict.CORRUPT: Kind.CORRUPT,
    Verdict.CHANGED: Kind.CHANGED,
    Verdict.REFUSED: Kind.UNDECIDED,
    Verdict.UNAVAILABLE: Kind.UNDECIDED,
}


async def fsck(
    catalog: Catalog,
    store: ObjectStore,
    *,
    depth: Depth = Depth.STRUCTURE,
    subset: tuple[int, int] = (1, 1),
    prefix: str = "",
    on_container: Callable[[ContainerRow], None] = lambda _: None,
) -> FsckReport:
    """Check every recorded container, and what no row names. Costs a listing and `examine` of each container.

    Args:
        catalog: has the rows.
        store: has the objects.
        depth: how much of each container is read. From STRUCTURE on, doubled names and dangling big files
            are found too; that takes 8 bytes of memory for each file of one day.
        subset: (n, t): the n-th of t parts of the containers, so that t runs check all. Names are compared
            only in a whole run.
        prefix: the setting `object_prefix`.
        on_container: called after each container.

    Raises:
        DesError: the catalog or the listing could not be read; containers that cannot are findings.
    """
    report = FsckReport()
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    objects = {info.key: info async for info in store.list(folder)}
    rows = await catalog.containers()
    now_ms = await catalog.now_ms()
    report.objects = len(objects)
    part, parts = subset
    stored = [row for row in rows if row.state is ContainerState.STORED]
    chosen = [row for row in stored if int(row.container_id[-8:], 16) % parts == part - 1]
    big_files: set[str] = set()
    by_day: dict[str, list[ContainerRow]] = {}
    for row in chosen:
        by_day.setdefault(row.day, []).append(row)
    for day in sorted(by_day):
        names = _Names()
        for row in by_day[day]:
            await _check(store, row, depth, report, names, big_files, objects)
            on_container(row)
        if parts == 1:
            report.findings += await names.doubled(store)
    report.findings += [
        Finding(
            Kind.UNSETTLED, row.key, f"announced {(now_ms - row.created_ms) // 1000} s ago by node {row.node}"
        )
        for row in rows
        if row.state is ContainerState.UPLOADING and now_ms - row.created_ms >= UNSETTLED_MS
    ]
    segments = await catalog.log_segments(state=LogSegmentState.HELD)
    await add_latecomers(store, objects, [segment.key for segment in segments])
    for segment in segments:
        if segment.key not in objects:
            report.findings.append(
                Finding(Kind.MISSING, segment.key, "a shipped log segment that is still needed")
            )
    tombstoned = await _tombstoned_objects(catalog)
    whole = depth >= Depth.STRUCTURE and parts == 1
    report.findings += _strangers(objects, rows, prefix, big_files | tombstoned if whole else None)
    return report


async def _check(
    store: ObjectStore,
    row: ContainerRow,
    depth: Depth,
    report: FsckReport,
    names: "_Names",
    big_files: set[str],
    objects: Mapping[str, ObjectInfo],
) -> None:
    result = await examine(store, row, depth)
    report.containers += 1
    report.files += row.geometry.file_count
    report.bytes += row.geometry.size
    if result.verdict is not Verdict.SOUND:
        report.findings.append(Finding(_OF_VERDICT[result.verdict], row.key, result.detail))
        return
    if depth < Depth.STRUCTURE:
        return
    try:
        reader = S3DesReader(store, row.key, etag=row.etag, size=row.geometry.size)
        await reader.open()
        index = await reader.get_index()
        names.add(row, [entry.name for entry in index])
        for entry in index:
            if not entry.is_external:
                continue
            key = (await reader.read_metadata(entry)).external_key
            assert key is not None
            big_files.add(key)
            if key not in objects:
                report.findings.append(
                    Finding(Kind.DANGLING, key, f"holds file {entry.name!r} of container {row.container_id}")
                )
    except DesError as error:
        report.findings.append(Finding(_OF_VERDICT[verdict_of(error)], row.key, str(error)))


class _Names:
    """The names of one day, as hashes."""

    def __init__(self) -> None:
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._rows: list[ContainerRow] = []

    def add(self, row: ContainerRow, names: Sequence[str]) -> None:
        hashes = (hash_of(name_digest(name.encode())) for name in names)
        self._hashes.append(np.fromiter(hashes, dtype=np.uint64, count=len(names)))
        self._rows.append(row)

    async def doubled(self, store: ObjectStore) -> list[Finding]:
        """Return the names that are in more than one container, with a note of how many there are."""
        if not self._hashes:
            return []
        values, counts = np.unique(np.concatenate(self._hashes), return_counts=True)
        twice = values[counts > 1]
        if not len(twice):
            return []
        places: dict[str, list[ContainerRow]] = {}
        for row, hashes in zip(self._rows, self._hashes, strict=True):
            if not np.isin(hashes, twice).any():
                continue
            reader = S3DesReader(store, row.key, etag=row.etag, size=row.geometry.size)
            await reader.open()
            index = list(await reader.get_index())
            for entry, is_twice in zip(index, np.isin(hashes, twice), strict=True):
                if is_twice:
                    places.setdefault(entry.name, []).append(row)
        # Equal hashes of different names are no finding.
        doubled = sorted(name for name, rows in places.items() if len(rows) > 1)
        findings = [
            Finding(
                Kind.DOUBLED,
                places[name][0].key,
                f"file {name!r} is in containers {', '.join(row.container_id for row in places[name])}",
            )
            for name in doubled[:NAMES_SHOWN]
        ]
        if len(doubled) > NAMES_SHOWN:
            more = len(doubled) - NAMES_SHOWN
            findings.append(Finding(Kind.DOUBLED, self._rows[0].key, f"and {more} more files of this day"))
        return findings


def _strangers(
    objects: Mapping[str, ObjectInfo],
    rows: Iterable[ContainerRow],
    prefix: str,
    named_big_files: set[str] | None,
) -> Iterable[Finding]:
    named = {row.key for row in rows}
    for key, info in sorted(objects.items()):
        kind = parse_key(key, prefix=prefix).kind
        if kind is ObjectKind.CONTAINER and key not in named:
            yield Finding(Kind.UNRECORDED, key, f"container of {info.size} bytes that no row names")
        elif kind is ObjectKind.FOREIGN:
            yield Finding(Kind.FOREIGN, key, f"object of {info.size} bytes under no key of ours")
        elif kind is ObjectKind.BIG_FILE and named_big_files is not None and key not in named_big_files:
            yield Finding(Kind.UNNAMED, key, f"big file of {info.size} bytes that no container names")


async def _tombstoned_objects(catalog: Catalog) -> set[str]:
    """Return the keys of big files that tombstones own: of millions of tombstones most own none."""
    found: set[str] = set()
    after = ""
    while page := await catalog.tombstones(after=after):
        found.update(one.external_key for one in page if one.external_key)
        after = page[-1].name
    return found
