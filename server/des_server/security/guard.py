"""A node as one principal may use it: every name is looked at before the node is asked about it.

All doors, gRPC and HTTP alike, serve the node through this when there is somebody to tell apart. What is
not written here is not reachable: a method that the node gets and the guard does not fails, it does not
pass. Changes are written to the audit log, each name of a batch for itself.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from des.assignment import AssignedName
from des.config import Settings
from des.db.catalog import ContainerRow, DayTotals
from des.errors import DesError, InvalidInputError
from des.files import FileInfo, FileSpec
from des.node import Node, NodeHealth, PutResult, ShardStatus
from des.node.put_many import WholeFile
from des.node.shard_watch import ShardNews
from des.packer.health import HealthCheck
from des.retrieval import OpenedFile, Part, ReadCost, Wanted
from des.retrieval.listing import ListPage, ListPosition, ListQuestion
from des.storage.object_store import Capabilities
from des_server.security.audit import AuditLog
from des_server.security.principal import CURRENT, Verb, denied

_SEPARATOR = "~"
"""Between a file's name and the rest of an upload's id (`des.node.resumable`)."""
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class GuardedNode:
    """What the doors use of a node, for the principal of the `CURRENT` call."""

    def __init__(self, node: Node, audit: AuditLog | None) -> None:
        self._node = node
        self._audit = audit
        self.settings: Settings = node.settings
        self.uploads = _GuardedUploads(node, self)
        self.cluster = node.cluster

    def __getattr__(self, name: str) -> Any:
        """Say of what the node has and the guard has not that nobody may use it."""
        if name in {"node_id", "node_uuid", "store_id", "started_ms"}:
            return getattr(self._node, name)
        raise AttributeError(f"the guard lets nobody use Node.{name}")

    async def assign_names(self, count: int, prefix: str, request_id: str) -> list[AssignedName]:
        """See `Node.assign_names`."""
        beginning = self._beginning(prefix)
        self._require(Verb.ASSIGN, beginning)
        names = await self._node.assign_names(count, prefix, request_id)
        for assigned in names:
            self.note(Verb.ASSIGN, assigned.name)
        return names

    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult:
        """See `Node.put_bytes`."""
        self.require_write(spec)
        try:
            result = await self._node.put_bytes(spec, data, crc32c)
        except BaseException as error:
            self.note(Verb.WRITE, spec.name, error)
            raise
        self.note(Verb.WRITE, result.file.name)
        return result

    async def put_many(self, items: Sequence[WholeFile]) -> list[PutResult | DesError]:
        """See `Node.put_many`; a file that may not be written is refused for itself."""
        may, refused = self._split(items, lambda item: self._named(item.spec), Verb.WRITE)
        outcomes = await self._node.put_many([items[at] for at in may]) if may else []
        for at, outcome in zip(may, outcomes, strict=True):
            if isinstance(outcome, DesError):
                self.note(Verb.WRITE, items[at].spec.name, outcome)
            else:
                self.note(Verb.WRITE, outcome.file.name)
        return _merged(len(items), may, outcomes, refused)

    async def begin_put(self, spec: FileSpec) -> Any:
        """See `Node.begin_put`."""
        self.require_write(spec)
        return _NotedWrite(await self._node.begin_put(spec), self, spec.name)

    async def open_file(self, name: str) -> OpenedFile:
        """See `Node.open_file`."""
        self._require(Verb.READ, name)
        return await self._node.open_file(name)

    async def read_many(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """See `Node.read_many`."""
        may, refused = self._split(wanted, lambda item: item.name, Verb.READ)
        if refused:
            yield [Part(at, None, 0, b"", 0, last=True, error=error) for at, error in refused.items()]
        if not may:
            return
        reading = self._node.read_many([wanted[at] for at in may], part_bytes=part_bytes, cost=cost)
        try:
            async for parts in reading:
                yield parts if not refused else [part._replace(at=may[part.at]) for part in parts]
        finally:
            await reading.aclose()

    async def stat_many(self, names: Sequence[str], *, cost: ReadCost) -> list[FileInfo | DesError]:
        """See `Node.stat_many`."""
        may, refused = self._split(names, str, Verb.READ)
        found = await self._node.stat_many([names[at] for at in may], cost=cost) if may else []
        return _merged(len(names), may, found, refused)

    async def stat(self, name: str) -> FileInfo:
        """See `Node.stat`."""
        self._require(Verb.READ, name)
        return await self._node.stat(name)

    async def list_files(
        self,
        question: ListQuestion,
        *,
        after: ListPosition | None,
        limit: int,
        names_only: bool,
        cost: ReadCost,
    ) -> ListPage:
        """See `Node.list_files`; all names that the question can find must be granted."""
        self._require(Verb.LIST, question.prefix)
        return await self._node.list_files(
            question, after=after, limit=limit, names_only=names_only, cost=cost
        )

    async def delete_many(
        self, names: Sequence[str], *, allow_missing: bool
    ) -> list[FileInfo | DesError | None]:
        """See `Node.delete_many`."""
        may, refused = self._split(names, str, Verb.DELETE)
        found = (
            await self._node.delete_many([names[at] for at in may], allow_missing=allow_missing)
            if may
            else []
        )
        for at, outcome in zip(may, found, strict=True):
            self.note(Verb.DELETE, names[at], outcome if isinstance(outcome, DesError) else None)
        return _merged(len(names), may, found, refused)

    async def wait_stored(self, names: Sequence[str]) -> list[FileInfo | DesError]:
        """See `Node.wait_stored`: for who may write a file, or read it."""
        principal = CURRENT.get().principal
        may = [
            at
            for at, name in enumerate(names)
            if principal.may(Verb.WRITE, name) or principal.may(Verb.READ, name)
        ]
        refused: dict[int, DesError] = {
            at: denied(Verb.READ, names[at]) for at in set(range(len(names))) - set(may)
        }
        found = await self._node.wait_stored([names[at] for at in may]) if may else []
        return _merged(len(names), may, found, refused)

    async def seal_shard(self, shard: int) -> list[ContainerRow]:
        """See `Node.seal_shard`."""
        self._require(Verb.ADMIN, "")
        try:
            rows = await self._node.seal_shard(shard)
        except BaseException as error:
            self.note(Verb.ADMIN, f"shard {shard}", error)
            raise
        self.note(Verb.ADMIN, f"shard {shard}")
        return rows

    async def shard_status(self, shards: Sequence[int] | None) -> list[ShardStatus]:
        """See `Node.shard_status`."""
        self._require(Verb.SHARDS, "")
        return await self._node.shard_status(shards)

    async def shard_revision(self) -> int:
        """See `Node.shard_revision`."""
        self._require(Verb.SHARDS, "")
        return await self._node.shard_revision()

    def watch_shards(
        self, shards: frozenset[int], *, start_revision: int, min_interval_s: float
    ) -> AsyncGenerator[ShardNews | None, None]:
        """See `Node.watch_shards`."""
        self._require(Verb.SHARDS, "")
        return self._node.watch_shards(shards, start_revision=start_revision, min_interval_s=min_interval_s)

    async def day_totals(self, days_max: int) -> list[DayTotals]:
        """See `Node.day_totals`."""
        self._require(Verb.SHARDS, "")
        return await self._node.day_totals(days_max)

    def backlog(self) -> tuple[int, int]:
        """See `Node.backlog`."""
        return self._node.backlog()

    async def capabilities(self) -> Capabilities:
        """See `Node.capabilities`: for everyone known."""
        return await self._node.capabilities()

    def health(self) -> NodeHealth:
        """See `Node.health`."""
        return self._node.health()

    def health_checks(self) -> list[HealthCheck]:
        """See `Node.health_checks`."""
        return self._node.health_checks()

    def show_metrics(self, registry: CollectorRegistry) -> None:
        """See `Node.show_metrics`."""
        self._node.show_metrics(registry)

    def require_write(self, spec: FileSpec) -> None:
        """Refuse to write what may not be written."""
        self._require(Verb.WRITE, self._named(spec))

    def note(self, verb: Verb, name: str, error: BaseException | None = None) -> None:
        """Write a change down."""
        if self._audit is not None:
            self._audit.change(verb, name, error)

    def require_upload(self, upload_id: str) -> str:
        """Refuse the uploads of files that may not be written, and return the file's name.

        An id holds the name, and the node knows no id with another.
        """
        name = upload_id.rpartition(_SEPARATOR)[0]
        self._require(Verb.WRITE, name)
        return name

    def _require(self, verb: Verb, name: str) -> None:
        try:
            CURRENT.get().principal.require(verb, name)
        except DesError as error:
            self.note(verb, name, error)
            raise

    def _named(self, spec: FileSpec) -> str:
        return spec.name or self._beginning(spec.prefix)

    def _beginning(self, prefix: str) -> str:
        """Return how all names that the store assigns begin."""
        return f"{prefix or self.settings.name_prefix}_"

    def _split(
        self, items: Sequence[_Item], name_of: Callable[[_Item], str], verb: Verb
    ) -> tuple[Sequence[int], dict[int, DesError]]:
        """Return the places of what may pass, and why the others may not."""
        principal = CURRENT.get().principal
        refused: dict[int, DesError] = {}
        for at, item in enumerate(items):
            name = name_of(item)
            if not principal.may(verb, name):
                refused[at] = denied(verb, name)
                self.note(verb, name, refused[at])
        if not refused:
            return range(len(items)), refused
        return [at for at in range(len(items)) if at not in refused], refused


class _GuardedUploads:
    """`Node.uploads` behind the guard."""

    def __init__(self, node: Node, guard: GuardedNode) -> None:
        self._node = node
        self._guard = guard

    async def start(self, spec: FileSpec) -> tuple[str, int]:
        self._guard.require_write(spec)
        return await self._node.uploads.start(spec)

    async def status(self, upload_id: str) -> int | FileInfo:
        self._guard.require_upload(upload_id)
        return await self._node.uploads.status(upload_id)

    async def cancel(self, upload_id: str) -> None:
        name = self._guard.require_upload(upload_id)
        await self._node.uploads.cancel(upload_id)
        self._guard.note(Verb.WRITE, name, InvalidInputError("cancelled"))

    async def resume(self, upload_id: str) -> Any:
        name = self._guard.require_upload(upload_id)
        return _NotedWrite(await self._node.uploads.resume(upload_id), self._guard, name)


class _NotedWrite:
    """A file that arrives in parts; what becomes of it is written down when it is finished."""

    def __init__(self, writing: Any, guard: GuardedNode, name: str) -> None:
        self._writing = writing
        self._guard = guard
        self._name = name

    async def finish(self, crc32c: int | None, sha256: bytes | None) -> PutResult:
        try:
            result: PutResult = await self._writing.finish(crc32c, sha256)
        except BaseException as error:
            self._guard.note(Verb.WRITE, self._name, error)
            raise
        self._guard.note(Verb.WRITE, result.file.name)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writing, name)


def _merged(
    count: int, may: Sequence[int], outcomes: Sequence[_Outcome], refused: dict[int, DesError]
) -> "list[_Outcome | DesError]":
    """Put outcomes and refusals in the order of what was asked."""
    if not refused:
        return list(outcomes)
    by_place: dict[int, _Outcome | DesError] = {**dict(zip(may, outcomes, strict=True)), **refused}
    return [by_place[at] for at in range(count)]
