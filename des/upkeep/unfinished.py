"""What crashes left half done in the object store, and what of it can be settled without its node.

A node finishes its own seals when it starts, from its log. This is for those whose node does not come back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog

from des.db.catalog import Catalog, ContainerRow, ContainerState, ShardClaim, ShardRun
from des.errors import DesError
from des.storage.object_store import ObjectStore
from des.upkeep.examine import Depth, Examination, Verdict, examine

_log = structlog.get_logger(__name__)

STALE_UPLOAD_MS: Final = 24 * 3600 * 1000
"""A multipart upload that began this long ago is nobody's: no upload takes as long."""


class Debt(StrEnum):
    """What is owed to an announced container that is not recorded."""

    ADOPT = "adopt"
    """Its object is whole: it can be recorded."""
    REPEAT = "repeat"
    """There is no object: its node builds it again from its log; nothing else can."""
    UNDECIDED = "undecided"
    """The object could not be read now."""
    DAMAGED = "damaged"
    """An object is there, and is not what was announced: left alone; its node repeats under another id."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One container that was announced and not recorded."""

    row: ContainerRow
    debt: Debt
    detail: str
    etag: str = ""


@dataclass(slots=True)
class RecoveryReport:
    """What was found, and what was done about it."""

    unfinished: list[Unfinished] = field(default_factory=list)
    adopted: list[ContainerRow] = field(default_factory=list)
    stayed: dict[str, str] = field(default_factory=dict)
    """Key -> why what could be settled was not."""
    aborted_uploads: int = 0


def debt_of(examination: Examination) -> Debt:
    """Decide from what was really read; a read that failed decides nothing."""
    match examination.verdict:
        case Verdict.SOUND:
            return Debt.ADOPT
        case Verdict.MISSING:
            return Debt.REPEAT
        case Verdict.CHANGED | Verdict.CORRUPT:
            return Debt.DAMAGED
        case Verdict.REFUSED | Verdict.UNAVAILABLE:
            return Debt.UNDECIDED


async def recover(
    catalog: Catalog,
    store: ObjectStore,
    *,
    claim: Callable[[ShardRun], ShardClaim | None],
    apply: bool,
    prefix: str = "",
) -> RecoveryReport:
    """Look at every announced container; with `apply`, record those whose every byte is there.

    Adopting is safe beside the node's own repeat, which finds the row stored and lets its records go. It
    asks for the locks of the container's shards all the same, so that no running node is overtaken.

    Args:
        catalog: has the rows.
        store: has the objects.
        claim: gives what a write for these shards has to show; None where another node holds them.
        apply: settle, and abort multipart uploads that began more than a day ago.
        prefix: the setting `object_prefix`.

    Raises:
        DesError: the catalog could not be read, or the store could not say which uploads are under way.
    """
    report = RecoveryReport()
    for row in await catalog.containers(state=ContainerState.UPLOADING):
        seen = await examine(store, row, Depth.DATA)
        one = Unfinished(row, debt_of(seen), seen.detail, seen.info.etag if seen.info else "")
        report.unfinished.append(one)
        if apply and one.debt is Debt.ADOPT:
            await _adopt(catalog, one, claim, report)
    if apply:
        folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        before = await catalog.now_ms() - STALE_UPLOAD_MS
        report.aborted_uploads = await store.abort_stale_uploads(folder, begun_before_ms=before)
    return report


async def _adopt(
    catalog: Catalog,
    one: Unfinished,
    claim: Callable[[ShardRun], ShardClaim | None],
    report: RecoveryReport,
) -> None:
    shown = claim(one.row.run)
    if shown is None:
        report.stayed[one.row.key] = "another node holds its shards, and will settle it"
        return
    try:
        row = await catalog.commit_container(one.row.container_id, etag=one.etag, claim=shown)
    except DesError as error:
        report.stayed[one.row.key] = str(error)
        return
    _log.info("container adopted", container=row.container_id, key=row.key, files=row.geometry.file_count)
    report.adopted.append(row)
