"""Many whole files in one step: one look, one append, one wait for all of them (DESIGN §3).

The rules are those of a single put, item by item. What is shared is the price: no task, no lock and no
wait of its own for a file, unless somebody else is just writing the same one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from des.cluster import NameAheadError, NotShardOwnerError, not_shard_owner
from des.errors import DesError
from des.files import BLOCK_SIZE, FileSpec
from des.ingest.facts import FileFacts
from des.ingest.log import IngestLog
from des.ingest.values import FileDraft
from des.node.write_rules import UploadSizeMismatchError

if TYPE_CHECKING:
    from des.node.put_result import PutResult
    from des.node.write_path import WritePath

LOOKS_AT_ONCE: Final = 32
"""Names of one batch that are looked for in containers at the same time."""


class WholeFile(NamedTuple):
    """One file to write; a tuple, since there is one for every file of a batch."""

    spec: FileSpec
    data: bytes
    """At most `BLOCK_SIZE` bytes; longer files arrive in parts."""
    crc32c: int
    """Of `data`, computed by the caller over these very bytes."""


Outcome: TypeAlias = "PutResult | DesError"


class _Draft(NamedTuple):
    at: int
    """Place in the batch."""
    key: str
    """What tells whether the file is there already: its name or its request id; empty for neither."""
    spec: FileSpec
    draft: FileDraft
    facts: FileFacts


class PutMany:
    """Writes batches of whole files for one `WritePath`."""

    def __init__(self, path: "WritePath", log: IngestLog, *, is_absent: Callable[[str, int], bool]) -> None:
        """Use the decisions of `path`.

        Args:
            path: decides about single files.
            log: takes the files.
            is_absent: whether a valid name of a shard is certainly new, as far as that is known
                without waiting.
        """
        self._path = path
        self._log = log
        self._is_absent = is_absent

    async def run(self, items: Sequence[WholeFile]) -> "list[Outcome]":
        """Write all items and return, in their order, what became of each.

        A caller that is cancelled here does not undo the writes: their outcome is unknown to it.
        """
        return await asyncio.shield(asyncio.ensure_future(self._run(items)))

    async def _run(self, items: Sequence[WholeFile]) -> "list[Outcome]":
        outcomes: list[Outcome | None] = [None] * len(items)
        drafts = await self._draft(items, outcomes)
        committing = self._path.committing
        mine: list[_Draft] = []
        looked_for: list[_Draft] = []
        theirs: list[_Draft] = []
        done = asyncio.get_running_loop().create_future()
        claimed: list[str] = []
        try:
            for draft in drafts:
                if not (key := draft.key):
                    mine.append(draft)
                elif key in committing:
                    theirs.append(draft)
                else:
                    committing[key] = done
                    claimed.append(key)
                    (mine if self._is_new(draft) else looked_for).append(draft)
            await self._decide(mine, looked_for, outcomes)
        finally:
            for key in claimed:
                del committing[key]
            done.set_result(None)
        if theirs:
            await _at_once(self._alone(draft, outcomes) for draft in theirs)
        return [outcome for outcome in outcomes if outcome is not None]

    async def _decide(
        self, mine: list[_Draft], looked_for: list[_Draft], outcomes: "list[Outcome | None]"
    ) -> None:
        """Look and append while the shards are this node's; the files of others are refused one by one."""
        own = self._path.shards.owns
        named_ms = 0
        nameless: _Draft | None = None
        for draft in [*mine, *looked_for]:
            if not own(draft.draft.shard):
                outcomes[draft.at] = not_shard_owner(draft.draft.shard, "is not this node's")
            elif draft.spec.name:
                name_ms = self._path.named_ms(draft.draft.name)
                try:
                    self._path.shards.check_named(draft.draft.shard, name_ms)
                except DesError as error:
                    outcomes[draft.at] = error
                else:
                    named_ms = max(named_ms, name_ms)
            else:
                nameless = draft
        if nameless is not None:  # the last one made, and so the latest
            named_ms = max(named_ms, self._path.named_ms(nameless.draft.name))
        mine = [draft for draft in mine if outcomes[draft.at] is None]
        looked_for = [draft for draft in looked_for if outcomes[draft.at] is None]
        everyone = [*mine, *looked_for]
        try:
            shards = {draft.draft.shard for draft in everyone}
            async with self._path.shards.writing(shards, named_ms=named_ms):
                if looked_for:
                    mine += await self._look(looked_for, outcomes)
                await self._append(mine, outcomes)
        except NameAheadError as error:
            for draft in everyone:
                outcomes[draft.at] = error
        except NotShardOwnerError as error:
            # One of the shards was lost on the way: which files are kept is not known to the callers.
            for draft in everyone:
                if outcomes[draft.at] is None or draft.draft.shard == error.shard:
                    outcomes[draft.at] = error

    async def _draft(self, items: Sequence[WholeFile], outcomes: "list[Outcome | None]") -> list[_Draft]:
        """Check the items and give them their names; those refused are in `outcomes`."""
        checked: list[int] = []
        nameless: dict[str, list[int]] = {}
        names: dict[int, str] = {}
        for at, (spec, data, _) in enumerate(items):
            try:
                self._check(spec, data)
            except DesError as error:
                outcomes[at] = error
                continue
            checked.append(at)
            if spec.name:
                names[at] = spec.name
            else:
                nameless.setdefault(spec.prefix, []).append(at)
        for prefix, places in nameless.items():
            try:
                names.update(zip(places, await self._path.new_names(len(places), prefix), strict=True))
            except DesError as error:
                for at in places:
                    outcomes[at] = error
        drafts: list[_Draft] = []
        for at in checked:
            if (given := names.get(at)) is None:
                continue
            spec, data, crc32c = items[at]
            name, day, shard = self._path.day_and_shard(given)
            facts = facts_of(spec)
            draft = FileDraft(name, day, shard, len(data), crc32c, facts.encode(), data)
            drafts.append(_Draft(at, spec.name or spec.request_id, spec, draft, facts))
        return drafts

    def _check(self, spec: FileSpec, data: bytes) -> None:
        if len(data) > BLOCK_SIZE:
            raise ValueError(f"{len(data)} bytes in one item, at most {BLOCK_SIZE} are put at once")
        self._path.check(spec)
        if spec.size is not None and spec.size != len(data):
            raise UploadSizeMismatchError(
                f"{len(data)} bytes arrived, {spec.size} were declared", expected=spec.size, actual=len(data)
            )
        if spec.name:
            self._path.check_name(spec.name)

    def _is_new(self, draft: _Draft) -> bool:
        if draft.spec.name:
            return self._is_absent(draft.draft.name, draft.draft.shard)
        return self._path.requests.get(draft.key) is None

    async def _look(self, drafts: Sequence[_Draft], outcomes: "list[Outcome | None]") -> list[_Draft]:
        """Settle what is there already or cannot be known; return the rest."""
        new: list[_Draft] = []

        async def look(draft: _Draft) -> None:
            try:
                known = await self._path.known_result(draft.spec, draft.draft)
            except DesError as error:
                outcomes[draft.at] = error
                return
            if known is None:
                new.append(draft)
            else:
                outcomes[draft.at] = known

        await _at_once(look(draft) for draft in drafts)
        return new

    async def _append(self, drafts: Sequence[_Draft], outcomes: "list[Outcome | None]") -> None:
        if not drafts:
            return
        try:
            files = await self._log.append_files([draft.draft for draft in drafts])
        except DesError as error:
            files = [error] * len(drafts)
        for draft, file in zip(drafts, files, strict=True):
            if isinstance(file, DesError):
                outcomes[draft.at] = file
                continue
            if draft.spec.request_id:
                self._path.requests.remember(draft.spec.request_id, file)
            outcomes[draft.at] = self._path.acknowledge(file, draft.facts)

    async def _alone(self, draft: _Draft, outcomes: "list[Outcome | None]") -> None:
        """Write one file that somebody else was writing, the same batch perhaps, once they are done."""
        try:
            outcomes[draft.at] = await self._path.commit_once(draft.key, draft.spec, draft.draft, draft.facts)
        except DesError as error:
            outcomes[draft.at] = error


def facts_of(spec: FileSpec) -> FileFacts:
    """Return what the log keeps of a specification."""
    if spec.content_type or spec.metadata or spec.request_id:
        return FileFacts(spec.content_type, spec.metadata, spec.request_id)
    return _NO_FACTS


_NO_FACTS: Final = FileFacts()


async def _at_once(jobs: Iterator[Coroutine[object, object, None]]) -> None:
    """Run jobs that raise nothing on purpose, a bounded number at a time, in order."""

    async def work() -> None:
        for job in jobs:
            await job

    async with asyncio.TaskGroup() as tasks:
        for _ in range(LOOKS_AT_ONCE):
            tasks.create_task(work())
