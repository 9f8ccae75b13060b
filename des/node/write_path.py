"""The write path: from a specification and bytes to an acknowledged file (DESIGN §3)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from des.assignment import NameAssigner
from des.assignment.assigner import RequestIdConflictError
from des.cluster import EveryShard, Shards, not_shard_owner
from des.config import Settings
from des.errors import DesError
from des.files import BLOCK_SIZE, Durability, FileInfo, FileSpec
from des.ingest.errors import LogFullError
from des.ingest.facts import FileFacts
from des.ingest.log import IngestLog
from des.ingest.values import Extent, FileDraft, OpenFile
from des.naming import ParsedName, consistent_hash, created_ms, created_ms_of, parse_name
from des.node.big_file import BigFileUpload
from des.node.put_many import PutMany, WholeFile
from des.node.put_result import PutResult
from des.node.request_memory import RequestMemory
from des.node.stored_acks import StoredAcks
from des.node.upload import Upload
from des.node.write_rules import (
    NameConflictError,
    UploadSizeMismatchError,
    check_size,
    check_spec,
)
from des.packer.backpressure import Backpressure, LogBackpressureError
from des.retrieval.tombstones import Tombstones, name_deleted
from des.storage.object_store import ObjectStore

CANDIDATES_MAX: Final = 4096
"""Names made in search of one in an own shard: enough for one shard of 256 in all but one of 10**6 puts."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What two writes are compared by."""

    size: int
    crc32c: int


class WritePath:
    """Decides and performs writes for the shards of this node."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: IngestLog,
        assigner: NameAssigner,
        store: ObjectStore,
        find: Callable[[str, ParsedName], Awaitable[FileInfo | None]],
        tombstones: Tombstones,
        is_absent: Callable[[str, int], bool],
        describe: Callable[[OpenFile, FileFacts], FileInfo],
        random_bytes: Callable[[int], bytes],
        acks: StoredAcks,
        backpressure: Backpressure,
        shards: Shards | None = None,
    ) -> None:
        self.shards = shards or EveryShard()
        """This node's hold on shards."""
        self._settings = settings
        self._acks = acks
        self._backpressure = backpressure
        self._log = log
        self._assigner = assigner
        self._store = store
        self._find = find
        self._tombstones = tombstones
        self._describe = describe
        self._random_bytes = random_bytes
        self.committing: dict[str, asyncio.Future[None]] = {}
        """Names and request ids that a write is deciding about; done when it has."""
        self.requests = RequestMemory()
        self._many = PutMany(self, log, is_absent=is_absent)

    async def put_bytes(self, spec: FileSpec, data: bytes, crc32c: int) -> PutResult:
        """Write one whole file whose CRC32C the caller computed over `data`.

        Raises:
            InvalidInputError: a field of `spec` breaks a rule, or size or content do not match it.
            AlreadyExistsError: the name or request id stands for other content.
            ExhaustedError: the disk is full; reads go on.
            UnavailableError: the log failed, the clock stands back, a dependency did not answer.
        """
        if len(data) > BLOCK_SIZE:
            upload = await self.begin(spec)
            try:
                await upload.write(data)
                return await upload.finish(crc32c)
            except BaseException:
                await upload.abort()
                raise
        self.check(spec)
        await self.admit(spec)
        await self._backpressure.admit(1, len(data))
        if spec.size is not None and spec.size != len(data):
            raise UploadSizeMismatchError(
                f"{len(data)} bytes arrived, {spec.size} were declared", expected=spec.size, actual=len(data)
            )
        name, day, shard = await self.place(spec)
        facts = FileFacts(spec.content_type, spec.metadata, spec.request_id)
        draft = FileDraft(
            name=name, day=day, shard=shard, size=len(data), crc32c=crc32c, facts=facts.encode(), data=data
        )
        return await self.commit(spec, draft, facts)

    async def admit(self, spec: FileSpec) -> None:
        """Refuse a durability that this store does not serve; see `StoredAcks.admit`."""
        await self._acks.admit(spec)

    async def put_many(self, items: Sequence[WholeFile]) -> list[PutResult | DesError]:
        """Write many whole files; see `PutMany.run`."""
        try:
            await self._backpressure.admit(len(items), sum(len(item.data) for item in items))
        except LogBackpressureError as error:
            return [error] * len(items)
        waiting = [item for item in items if self._acks.wants(item.spec)]
        if len(waiting) < len(items):
            await self.shards.note_local()
        if not waiting:
            return await self._many.run(items)
        try:
            await self._acks.admit(waiting[0].spec)
        except DesError as error:
            served = iter(await self._many.run([item for item in items if not self._acks.wants(item.spec)]))
            return [error if self._acks.wants(item.spec) else next(served) for item in items]
        return await self._acks.many([item.spec for item in items], await self._many.run(items))

    async def begin(self, spec: FileSpec) -> Upload:
        """Start a file that arrives in parts. Same errors as `put_bytes`."""
        self.check(spec)
        await self.admit(spec)
        name, day, shard = await self.place(spec)
        upload = Upload(self, spec, name=name, day=day, shard=shard)
        if spec.size is not None and spec.size > self._settings.big_file_bytes:
            await upload.go_big()
        return upload

    async def commit(self, spec: FileSpec, draft: FileDraft, facts: FileFacts) -> PutResult:
        """Append the draft unless its name or request is known; acknowledge when it is as durable as asked.

        A caller that is cancelled here does not undo the write: its outcome is unknown to the caller.
        """
        result = await self._commit(spec, draft, facts)
        if not self._acks.wants(spec) and not result.already_existed:
            return result
        return await self._acks.one(spec, result)

    async def _commit(self, spec: FileSpec, draft: FileDraft, facts: FileFacts) -> PutResult:
        key = spec.name or spec.request_id
        if not key:
            return await self._append_new(spec, draft, facts)
        return await asyncio.shield(asyncio.ensure_future(self.commit_once(key, spec, draft, facts)))

    async def commit_once(self, key: str, spec: FileSpec, draft: FileDraft, facts: FileFacts) -> PutResult:
        """Append the draft when no other write is deciding about its key, unless the key is known."""
        while (other := self.committing.get(key)) is not None:
            await asyncio.shield(other)
        done = self.committing[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._append_new(spec, draft, facts)
        finally:
            del self.committing[key]
            done.set_result(None)

    async def _append_new(self, spec: FileSpec, draft: FileDraft, facts: FileFacts) -> PutResult:
        """Append the draft unless it is known; give up what was written for it if no record will name it."""
        known: PutResult | None = None
        appending = False
        try:
            if not self._acks.wants(spec):
                await self.shards.note_local()  # first: it may take as long as to lose the shard
            async with self.shards.writing((draft.shard,), named_ms=self.named_ms(draft.name)):
                if spec.name or spec.request_id:
                    known = await self.known_result(spec, draft)
                if known is None:
                    appending = True
                    file = await self._log.append_file(draft)
        except BaseException as error:
            # Of any other error of the log it is not known whether the record is there.
            if not appending or isinstance(error, LogFullError):
                await self._drop(draft, facts)
            raise
        if known is not None:
            await self._drop(draft, facts)
            return known
        if spec.request_id:
            self.requests.remember(spec.request_id, file)
        return self.acknowledge(file, facts)

    def acknowledge(self, file: OpenFile, facts: FileFacts) -> PutResult:
        """Return the answer to a write whose record is synced."""
        return PutResult(self._describe(file, facts), already_existed=False, durability=Durability.LOCAL)

    async def _drop(self, draft: FileDraft, facts: FileFacts) -> None:
        """Give up what was written for a draft that no record will ever name."""
        self._log.release_blocks(draft.blocks)
        if facts.external is not None:
            with contextlib.suppress(DesError):  # a leftover under a key that nobody names
                await self._store.delete(facts.external.key, etag=facts.external.etag)

    async def known_result(self, spec: FileSpec, draft: FileDraft) -> PutResult | None:
        """Return the answer to a write that repeats an earlier one, None for a new one.

        Raises:
            AlreadyExistsError: the name or request id stands for other content.
        """
        known = await self._known(spec, _Content(draft.size, draft.crc32c))
        return None if known is None else PutResult(known, already_existed=True, durability=Durability.LOCAL)

    async def _known(self, spec: FileSpec, content: _Content) -> FileInfo | None:
        if spec.name:
            parsed = parse_name(spec.name)
            bits = self._settings.shard_bits
            shard = consistent_hash(spec.name, bits)
            deleted_ms = await self._tombstones.deleted_ms(spec.name, parsed.day, shard, bits=bits)
            if deleted_ms:
                raise name_deleted(spec.name, deleted_ms)
            known = await self._find(spec.name, parsed)
            if known is None or _Content(known.size, known.crc32c) == content:
                return known
            raise NameConflictError(
                f"file {spec.name!r} exists with {known.size} bytes and CRC32C {known.crc32c:08x}, "
                f"this write has {content.size} bytes and CRC32C {content.crc32c:08x}",
                name=spec.name,
                existing_crc32c=f"{known.crc32c:08x}",
            )
        before = self.requests.get(spec.request_id)
        if before is None:
            return None
        if _Content(before.size, before.crc32c) != content:
            raise RequestIdConflictError(
                f"request id {spec.request_id!r} made file {before.name!r} with {before.size} bytes and "
                f"CRC32C {before.crc32c:08x}, this write has {content.size} bytes and "
                f"CRC32C {content.crc32c:08x}",
                request_id=spec.request_id,
                name=before.name,
            )
        return self._describe(before, FileFacts.decode(before.facts))

    async def place(self, spec: FileSpec) -> tuple[str, int, int]:
        """Return name, day and shard of a file, a new name where none is given."""
        if spec.name:
            self.check_name(spec.name)
            placed = self.day_and_shard(spec.name)
            if not self.shards.owns(placed[2]):  # before a byte is taken, so that another node can take them
                raise not_shard_owner(placed[2], "is not this node's")
            self.shards.check_named(placed[2], self.named_ms(spec.name))
            return placed
        return self.day_and_shard((await self.new_names(1, spec.prefix))[0])

    async def new_names(self, count: int, prefix: str) -> list[str]:
        """Return new names, all in shards of this node, so that the writes need no other node.

        Names fall on shards at random: with one n-th of the shards, every n-th name fits.

        Raises:
            NotShardOwnerError: this node owns no shard, or too few to meet one.
            UnavailableError: as for `NameAssigner.assign`.
        """
        names: list[str] = []
        shard = 0
        for _ in range(CANDIDATES_MAX):
            made = (
                await self._assigner.many(count - len(names), prefix)
                if count > 1
                else [await self._assigner.one(prefix)]
            )
            for name in made:
                shard = self.day_and_shard(name)[2]
                if self.shards.owns(shard):
                    names.append(name)
            if len(names) == count:
                return names
            if not self.shards.owns_any():
                break
        raise not_shard_owner(shard, "and no other that this node owns was met by a new name")

    def check_name(self, name: str) -> None:
        """Refuse a name that DES does not make, and a time that its day does not have."""
        created_ms(parse_name(name), self._settings.wrap_bits)

    def day_and_shard(self, name: str) -> tuple[str, int, int]:
        """Return a valid name with its day and its shard."""
        return name, int(name[-26:-18]), consistent_hash(name, self._settings.shard_bits)

    def named_ms(self, name: str) -> int:
        """Return the time in a valid name."""
        return created_ms_of(name, self._settings.wrap_bits)

    def check(self, spec: FileSpec) -> None:
        """Refuse a specification that breaks a rule, and every one while the log takes no writes."""
        if self._log.failure is not None:
            raise self._log.failure
        check_spec(spec, self._settings.limits)

    def check_size(self, size: int) -> None:
        """Refuse a size that no file may have."""
        check_size(size, self._settings.limits)

    async def append_block(self, data: bytes, crc32c: int) -> Extent:
        """Append a part of a streamed file to the log."""
        await self._backpressure.admit(1, len(data))
        return await self._log.append_block(data, crc32c)

    async def read_block(self, extent: Extent) -> bytes:
        """Read a part back that `append_block` wrote."""
        return await self._log.reader.read(extent)

    def release_blocks(self, blocks: Iterable[Extent]) -> None:
        """Let the log drop the parts of a file that is not coming."""
        self._log.release_blocks(blocks)

    async def begin_big_file(self, *, name: str, day: int, shard: int) -> BigFileUpload:
        """Start an object under `_bigFiles/`; its key is never used twice."""
        key = big_file_key(
            self._settings, name=name, day=day, shard=shard, unique=self._random_bytes(4).hex()
        )
        return await BigFileUpload.begin(self._store, key)

    @property
    def big_file_bytes(self) -> int:
        """The longest file that goes into a container."""
        return int(self._settings.big_file_bytes)


def big_file_key(settings: Settings, *, name: str, day: int, shard: int, unique: str) -> str:
    """Return the object key of a file that lies outside its container.

    The unique part keeps a key from ever being used twice: an upload that was never acknowledged
    leaves at most an object that nobody names, never one in the way of the next attempt.
    """
    return f"{object_folder(settings, day=day, shard=shard)}/_bigFiles/{name}.{unique}"


def object_folder(settings: Settings, *, day: int, shard: int) -> str:
    """Return the key prefix of a day and shard, without a slash at the end."""
    prefix = f"{settings.object_prefix.strip('/')}/" if settings.object_prefix.strip("/") else ""
    digits = (settings.shard_bits + 3) // 4
    return f"{prefix}{day}/{shard:0{max(digits, 1)}x}"
