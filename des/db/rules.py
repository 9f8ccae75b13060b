"""What every catalog checks alike, as functions over values."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Final

from des.db.catalog import ContainerRow, ContainerState, FencedError, ShardClaim, ShardLock, ShardRun
from des.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError

_OF_ONE_ANNOUNCEMENT: Final = frozenset({"state", "epoch", "node", "etag", "created_ms", "stored_ms"})
"""Fields in which a repeated announcement may differ: what the catalog sets, and who repeats it."""


class UnknownContainerError(NotFoundError):
    """No container was announced with this id."""

    reason = "INTERNAL"


class ContainerConflictError(ConflictError):
    """The catalog has another container in this one's place."""


class KeyTakenError(AlreadyExistsError):
    """Another container has this object key; keys are never used twice."""


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
    claimed = {shard for shard, _ in claim.epochs}
    missing = next((shard for shard in range(run.first, run.first + run.span) if shard not in claimed), None)
    if missing is not None:
        raise InvalidInputError(
            f"claim leaves out shard {missing} of the container's run [{run.first}, {run.first + run.span})"
        )


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
        ContainerConflictError: the row is stored with another etag.
    """
    if found is None:
        raise UnknownContainerError(
            f"container {container_id} was never announced", container_id=container_id
        )
    if found.state is ContainerState.STORED and found.etag != etag:
        raise ContainerConflictError(
            f"container {container_id} is stored with etag {found.etag!r}, not {etag!r}",
            container_id=container_id,
        )
    return found.state is not ContainerState.STORED


def hash_range(run: ShardRun, *, bits: int) -> tuple[int, int]:
    """Return the part `[first, stop)` of a hash space of `2**bits` parts that `run` covers.

    Raises:
        InvalidInputError: the run has more bits than that.
    """
    if run.bits > bits:
        raise InvalidInputError(f"run has {run.bits} shard bits, at most {bits} are kept")
    shift = bits - run.bits
    return run.first << shift, (run.first + run.span) << shift
