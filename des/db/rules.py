"""What every catalog checks alike, as functions over values."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Final
from uuid import UUID, uuid5

from des.db.catalog import ContainerRow, ContainerState, FencedError, ShardClaim, ShardLock, ShardRun
from des.db.membership import NODE_IDS, NodeBeat, NodeIdsExhaustedError, NodeReplacedError, NodeRow
from des.db.rows import LogSegmentRow, LogSegmentState, OpenContainer
from des.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError

_OF_ONE_ANNOUNCEMENT: Final = frozenset(
    {"state", "epoch", "node", "etag", "created_ms", "stored_ms", "retired_ms", "abandoned_ms", "removed_ms"}
)
"""Fields in which a repeated announcement may differ: what the catalog sets, and who repeats it."""
_MAYBE_UNKNOWN: Final = frozenset({"name_first", "name_last"})
"""Fields that one of two versions, taking turns at a seal, does not know."""

UNBOUNDED_AHEAD_MS: Final = 1_000
"""How far the clock may be ahead of the database's of a node that does not bound the times in its names."""
_OPEN: Final = UUID("d8a7e4f0-5a43-4b57-9a1c-3f0a6d0c7e21")
"""Any namespace of this project's own."""


class UnknownContainerError(NotFoundError):
    """No container was announced with this id."""

    reason = "INTERNAL"


class ContainerConflictError(ConflictError):
    """The catalog has another container in this one's place."""


class KeyTakenError(AlreadyExistsError):
    """Another container has this object key; keys are never used twice."""


class LogSegmentConflictError(ConflictError):
    """The catalog has another log segment in this one's place, or still needs it."""


def check_announcement(row: ContainerRow, claim: ShardClaim) -> None:
    """Refuse a row that is no announcement, and a claim that leaves out a shard of its run.

    Raises:
        InvalidInputError: either is so; it is the caller's mistake, not a lost lock.
    """
    if row.state is not ContainerState.UPLOADING or row.etag:
        raise InvalidInputError(
            f"container {row.container_id} is announced as {row.state.value!r} with etag {row.etag!r}, "
            "expected 'uploading' without one"
        )
    check_cover(row.run, claim)


def check_cover(run: ShardRun, claim: ShardClaim) -> None:
    """Refuse a claim that leaves out a shard of `run`.

    Raises:
        InvalidInputError: it does.
    """
    check_claims(run.shards(run.bits if claim.bits is None else claim.bits), claim)


def check_claims(shards: Iterable[int], claim: ShardClaim) -> None:
    """Refuse a claim that leaves out one of `shards`.

    Raises:
        InvalidInputError: it does.
    """
    claimed = {shard for shard, _ in claim.epochs}
    missing = next((shard for shard in shards if shard not in claimed), None)
    if missing is not None:
        raise InvalidInputError(f"claim leaves out shard {missing} of what it is shown for")


def check_open(rows: Iterable[OpenContainer], claim: ShardClaim) -> None:
    """Refuse a checkpoint of nothing, of one shard and day twice, or of a shard that the claim leaves out.

    Raises:
        InvalidInputError: it is one.
    """
    seen: set[str] = set()
    for row in rows:
        check_claims([row.shard], claim)
        key = open_container_id(row)
        if row.files < 1 or row.data_bytes < 0 or key in seen:
            raise InvalidInputError(
                f"shard {row.shard} of day {row.day} has {row.files} files of {row.data_bytes} bytes, "
                "expected one row with at least one file"
            )
        seen.add(key)


def open_container_id(row: OpenContainer) -> str:
    """Return the id of the row: one for each day and shard, whoever holds it."""
    return str(uuid5(_OPEN, f"{row.day}/{row.bits}/{row.shard}"))


def check_etag(etag: str) -> None:
    """Refuse to store without an etag.

    Raises:
        InvalidInputError: `etag` is empty.
    """
    if not etag:
        raise InvalidInputError("etag is empty, expected the stored object's")


def ttl_ms_of(ttl_s: float) -> int:
    """Return a lease time in milliseconds.

    Raises:
        InvalidInputError: it is shorter than a millisecond.
    """
    ttl_ms = int(ttl_s * 1000)
    if ttl_ms < 1:
        raise InvalidInputError(f"lease time is {ttl_s!r} s, expected at least 0.001")
    return ttl_ms


def check_holder(holder: str) -> None:
    """Refuse a holder without a name, which would read as a free lock.

    Raises:
        InvalidInputError: `holder` is empty or longer than a UUID.
    """
    if not 1 <= len(holder) <= len("00000000-0000-0000-0000-000000000000"):
        raise InvalidInputError(f"holder is {holder[:64]!r}, expected a UUID")


def check_shards(shards: Iterable[int]) -> list[int]:
    """Return the shards in order, each once.

    Raises:
        InvalidInputError: one is negative.
    """
    ordered = sorted(set(shards))
    if ordered and ordered[0] < 0:
        raise InvalidInputError(f"shard is {ordered[0]}, expected 0 or more")
    return ordered


def may_take(lock: ShardLock, *, holder: str, node: str, now_ms: int, force: bool) -> bool:
    """Whether `holder`, a start of `node`, may take a lock.

    It is free or expired, or an earlier start of the same node has it: two starts of one data folder
    never run at once. Expired locks of the holder itself are taken anew.
    """
    earlier_start = node != "" and lock.node == node and lock.holder != holder
    return force or lock.expires_ms <= now_ms or earlier_start


def leaves_estate(lock: ShardLock, *, node: str) -> bool:
    """Whether the holder that loses this lock to `node` may still hold files of the shard."""
    return lock.holder != "" and lock.node not in {"", node}


def named_until_ms(lock: ShardLock, *, said_ms: int | None, now_ms: int) -> int:
    """Return the latest time in names of files that the holder of a lock, taken from it now, acknowledged.

    `said_ms` is what its node last said of itself (`NodeBeat.named_until_ms`). The clock of one that says
    nothing may have run ahead, by `UNBOUNDED_AHEAD_MS` and no more, as was asked of it.
    """
    until_ms = max(now_ms, lock.expires_ms)
    return until_ms + UNBOUNDED_AHEAD_MS if said_ms is None else max(until_ms, said_ms)


def known_named_until_ms(noted_ms: int | None, *, taken_ms: int) -> int:
    """Return `named_until_ms` of an estate; versions before 0011 note none, and leave what they find."""
    if noted_ms is None or noted_ms < taken_ms:
        return taken_ms + UNBOUNDED_AHEAD_MS
    return noted_ms


def check_beat(found: NodeRow | None, beat: NodeBeat, *, starting: bool) -> None:
    """Refuse a process whose place a later start of its node has taken.

    Raises:
        NodeReplacedError: it has.
    """
    if found is None and not starting:
        raise NodeReplacedError(f"node {beat.node} is not registered any more", node=beat.node)
    if found is None or (found.boot_epoch < beat.boot_epoch if starting else found.holder == beat.holder):
        return
    if starting and found.holder == beat.holder:
        return
    raise NodeReplacedError(
        f"node {beat.node} is registered as start {found.boot_epoch} ({found.holder}), "
        f"this is start {beat.boot_epoch} ({beat.holder}): the data folder was copied or set back",
        node=beat.node,
    )


def choose_node_id(
    known: Iterable[tuple[int, str, int, int]], *, node: str, now_ms: int, window_ms: int
) -> int:
    """Return the node id for `node` among the known ones: (id, node, floor, last use).

    Its own, else one that was never used, else the one that was used the longest ago. An id goes to
    another node only `window_ms` after its last use and its last name, so that the times in names,
    which wrap, cannot meet.

    Raises:
        NodeIdsExhaustedError: none is free.
    """
    rows = sorted(known)
    own = next((row[0] for row in rows if row[1] == node), None)
    if own is not None:
        return own
    used = {row[0] for row in rows}
    fresh = next((node_id for node_id in range(NODE_IDS) if node_id not in used), None)
    if fresh is not None:
        return fresh
    last_use, oldest = min((max(row[2], row[3]), row[0]) for row in rows)
    if last_use + window_ms > now_ms:
        raise NodeIdsExhaustedError(
            f"all {NODE_IDS} node ids are leased; the oldest may go to another data folder in "
            f"{(last_use + window_ms - now_ms) / 86_400_000:.1f} days",
            quota="node_ids",
        )
    return oldest


def fence(claim: ShardClaim, locks: Iterable[ShardLock]) -> None:
    """Refuse a write whose claim the locks do not bear out.

    Expiry does not matter: while nobody took the lock, its epoch still keeps everybody else out.

    Raises:
        FencedError: a lock of the claim has another epoch or holder, or none.
    """
    held = {lock.shard: lock for lock in locks}
    for shard, epoch in claim.epochs:
        lock = held.get(shard)
        if lock is None or lock.epoch != epoch or lock.holder != claim.holder:
            found = "no lock" if lock is None else f"epoch {lock.epoch} of {lock.holder or 'nobody'}"
            raise FencedError(
                f"shard {shard} has {found}, the claim is epoch {epoch} of {claim.holder}",
                shard_id=shard,
                owner="" if lock is None else lock.holder,
            )


def settle_announcement(found: ContainerRow, wanted: ContainerRow) -> ContainerRow:
    """Return the row that is there, if it is the one wanted.

    Raises:
        ContainerConflictError: it describes another object.
    """
    different = [
        field.name
        for field in fields(ContainerRow)
        if field.name not in _OF_ONE_ANNOUNCEMENT
        and getattr(found, field.name) != getattr(wanted, field.name)
        and not (
            field.name in _MAYBE_UNKNOWN
            and not all((getattr(found, field.name), getattr(wanted, field.name)))
        )
    ]
    if different:
        raise ContainerConflictError(
            f"container {found.container_id} was announced before with another "
            + "; ".join(
                f"{name}: {getattr(found, name)!r}, now {getattr(wanted, name)!r}" for name in different
            ),
            container_id=found.container_id,
            fields=",".join(different),
        )
    return found


def settle_commit(found: ContainerRow | None, *, container_id: str, etag: str) -> bool:
    """Return whether the row still has to be turned to stored.

    Raises:
        UnknownContainerError: there is no row.
        ContainerConflictError: the row is stored with another etag, or abandoned.
    """
    found = known(found, container_id)
    if found.state is ContainerState.ABANDONED:
        raise ContainerConflictError(
            f"container {container_id} is abandoned, it is never committed", container_id=container_id
        )
    if found.etag and found.etag != etag:
        raise ContainerConflictError(
            f"container {container_id} is stored with etag {found.etag!r}, not {etag!r}",
            container_id=container_id,
        )
    return found.state is ContainerState.UPLOADING


def settle_abandon(found: ContainerRow | None, *, container_id: str) -> bool:
    """Return whether the row still has to be turned to abandoned.

    Raises:
        UnknownContainerError: there is no row.
        ContainerConflictError: the row is or was stored.
    """
    found = known(found, container_id)
    return _turns(found, since=ContainerState.UPLOADING, to=ContainerState.ABANDONED)


def settle_retire(found: ContainerRow | None, *, container_id: str) -> bool:
    """Return whether the row still has to be turned to retired.

    Raises:
        UnknownContainerError: there is no row.
        ContainerConflictError: the row was never stored.
    """
    found = known(found, container_id)
    return _turns(found, since=ContainerState.STORED, to=ContainerState.RETIRED)


def settle_remove(found: ContainerRow | None, *, container_id: str) -> bool:
    """Return whether the removal of the row's object still has to be recorded.

    Raises:
        UnknownContainerError: there is no row.
        ContainerConflictError: readers or an upload may still need the object.
    """
    found = known(found, container_id)
    if found.state not in {ContainerState.RETIRED, ContainerState.ABANDONED}:
        raise ContainerConflictError(
            f"container {container_id} is {found.state.value}, expected retired or abandoned",
            container_id=container_id,
        )
    return found.removed_ms is None


def known(found: ContainerRow | None, container_id: str) -> ContainerRow:
    """Return the row.

    Raises:
        UnknownContainerError: there is none.
    """
    if found is None:
        raise UnknownContainerError(
            f"container {container_id} was never announced", container_id=container_id
        )
    return found


def _turns(found: ContainerRow, *, since: ContainerState, to: ContainerState) -> bool:
    if found.state not in {since, to}:
        raise ContainerConflictError(
            f"container {found.container_id} is {found.state.value}, expected {since.value}",
            container_id=found.container_id,
        )
    return found.state is since


def check_segment(row: LogSegmentRow, claim: ShardClaim) -> None:
    """Refuse a segment that is not a new one, and a claim that leaves out one of its shards.

    Raises:
        InvalidInputError: either is so.
    """
    if row.state is not LogSegmentState.HELD or not row.shards or not row.etag:
        raise InvalidInputError(
            f"log segment {row.key!r} is {row.state.value} with etag {row.etag!r} and {len(row.shards)} "
            "shards, expected held, with both"
        )
    check_claims(row.shards, claim)


def settle_segment(found: LogSegmentRow, wanted: LogSegmentRow) -> LogSegmentRow:
    """Return the row that is there, if it is the one wanted.

    Raises:
        LogSegmentConflictError: it describes another object.
    """
    if (found.key, found.sha256, found.size) != (wanted.key, wanted.sha256, wanted.size):
        raise LogSegmentConflictError(
            f"log segment {found.id.number} of node {found.id.node}, start {found.id.boot_epoch}, is "
            f"{found.key!r} of {found.size} bytes with SHA-256 {found.sha256}; now {wanted.key!r} of "
            f"{wanted.size} bytes with {wanted.sha256}"
        )
    return found


def check_droppable(rows: Iterable[LogSegmentRow]) -> None:
    """Refuse to forget a segment that is still needed.

    Raises:
        LogSegmentConflictError: one is.
    """
    for row in rows:
        if row.state is not LogSegmentState.RELEASED:
            raise LogSegmentConflictError(
                f"log segment {row.key!r} is still needed for shards {row.shards[:8]}"
            )


def hash_range(run: ShardRun, *, bits: int) -> tuple[int, int]:
    """Return the part `[first, stop)` of a hash space of `2**bits` parts that `run` covers.

    Raises:
        InvalidInputError: the run has more bits than that.
    """
    if run.bits > bits:
        raise InvalidInputError(f"run has {run.bits} shard bits, at most {bits} are kept")
    shift = bits - run.bits
    return run.first << shift, (run.first + run.span) << shift
