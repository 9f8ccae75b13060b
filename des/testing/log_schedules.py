"""Seeded lives of an ingest log: appends, faults, power cuts, restarts, and what must hold after each.

One seed is one life of a few boots over one `SimulatedDisk`. After every start the log must hold every
acknowledged file and everything an earlier start or a publication has shown, each once and with its own
bytes, nothing that was never submitted; and a crash alone must never look like damage.
"""

import asyncio
import errno
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from uuid import UUID

import google_crc32c

from des.config.settings import LogSettings
from des.errors import DesError
from des.ingest.errors import LogReadError
from des.ingest.log import IngestLog
from des.ingest.record import HEADER_SIZE
from des.ingest.values import Extent, FileDraft, OpenFile, RecoveredLog, Sealing
from des.testing.simulated_disk import Fault, PowerCut, SimulatedDisk
from des.testing.unsynced import SECTOR

NODE: Final = UUID(int=0xDE5)
DAY: Final = 20261123
PASSES_MAX: Final = 5000
"""Passes of the event loop after which a life that does not end counts as hung."""


class ViolationError(AssertionError):
    """A promise of the log that did not hold, with the seed that shows it."""


class Ticks:
    """A clock that moves one millisecond with every look."""

    def __init__(self) -> None:
        self._ms = 1_700_000_000_000

    def now_ms(self) -> int:
        """Return the next millisecond."""
        self._ms += 1
        return self._ms

    def monotonic(self) -> float:
        """Return the same time in seconds."""
        return self.now_ms() / 1000

    async def sleep(self, seconds: float) -> None:
        """Move on and let others run."""
        self._ms += int(seconds * 1000)
        await asyncio.sleep(0)


@dataclass(slots=True)
class _Model:
    """What the outside knows."""

    submitted: dict[str, bytes] = field(default_factory=dict)
    must_stay: set[str] = field(default_factory=set)
    """Acknowledged, published, or shown by a start."""
    may_go: set[str] = field(default_factory=set)
    """Said to be stored."""
    floor_ms: int = 0
    sealings: dict[str, list[int]] = field(default_factory=dict)
    """Acknowledged sealings."""


class Life:
    """One seeded life."""

    def __init__(self, seed: int, *, log_type: type[IngestLog] = IngestLog) -> None:
        self._rng = Random(seed)
        self._seed = seed
        self._log_type = log_type
        self._disk = SimulatedDisk(self._rng)
        self._disk.short_writes = self._rng.choice([0.0, 0.0, 0.2])
        self._clock = Ticks()
        self._model = _Model()
        self._epoch = 0
        self._settings = LogSettings.model_validate(
            {
                "segment_bytes": self._rng.choice([2 << 10, 4 << 10, 8 << 10]),
                "group_bytes": self._rng.choice([512, 4 << 10]),
                "reserve_free_bytes": 0,
                "reclaim_delay_s": 0,
            }
        )

    async def run(self) -> None:
        """Live it.

        Raises:
            ViolationError: a promise did not hold.
        """
        for _ in range(self._rng.randint(1, 3)):
            if self._rng.random() < 0.9:
                self._disk.cut_at = self._disk.calls + self._rng.randint(1, self._rng.choice([12, 40, 120]))
            if self._rng.random() < 0.15:
                self._disk.faults.append(
                    Fault(
                        self._disk.calls + self._rng.randint(1, 60),
                        self._rng.choice([errno.EIO, errno.ENOSPC]),
                        only=self._rng.choice(["sync", "pwrite", None]),
                    )
                )
            await self._boot()
            if self._rng.random() < 0.7:
                self._disk.crash()
            else:
                self._disk.faults.clear()
                self._disk.cut_at = None
                self._disk.restart()
        await self._boot(last=True)

    async def _boot(self, *, last: bool = False) -> None:
        self._epoch += 1
        try:
            log, recovered = await self._log_type.open(
                self._disk,
                clock=self._clock,
                node=NODE,
                boot_epoch=self._epoch,
                settings=self._settings,
                executor=None,
                publish=self._published,
                salt=lambda: self._rng.getrandbits(32),
            )
        except PowerCut:
            return
        except DesError as error:
            self._expect(not last, f"the log did not open: {error}")
            return
        try:
            await self._check(log, recovered)
            if not last:
                await self._work(log, recovered)
            if last or self._rng.random() < 0.3:
                await log.close()
        except PowerCut:
            pass
        finally:
            await _abandon(log, self._disk)

    def _expect(self, held: bool, promise: str) -> None:  # noqa: FBT001  reads like assert
        if not held:
            raise ViolationError(f"seed {self._seed}, boot {self._epoch}: {promise}")

    def _published(self, files: Sequence[OpenFile]) -> None:
        seqs = [file.seq for file in files]
        self._expect(seqs == sorted(seqs), "published out of order")
        self._model.must_stay.update(file.name for file in files)

    async def _check(self, log: IngestLog, recovered: RecoveredLog) -> None:
        model, expect = self._model, self._expect
        expect(not recovered.damage, f"a crash looks like damage: {recovered.damage}")
        names = [file.name for file in recovered.files]
        expect(len(names) == len(set(names)), "a file is there twice")
        missing = model.must_stay - set(names) - model.may_go
        expect(not missing, f"lost {sorted(missing)}")
        seqs = [file.seq for file in recovered.files]
        expect(seqs == sorted(set(seqs)), "sequence numbers do not ascend")
        for file in recovered.files:
            expect(file.name in model.submitted, f"{file.name} was never submitted")
            expect(file.facts == file.name.encode(), f"facts of {file.name} are not its own")
            expect((file.day, file.shard) == (DAY, len(file.name)), f"{file.name} moved")
            content = model.submitted[file.name]
            if not (file.name in model.may_go and file.blocks):  # its first blocks may be reclaimed
                try:
                    data = b"".join([await log.reader.read(extent) for extent in file.extents])
                except LogReadError:
                    continue  # a planned fault; the next start looks again
                except DesError as error:
                    raise ViolationError(
                        f"seed {self._seed}, boot {self._epoch}: {file.name} is shown, not readable: {error}"
                    ) from error
                expect(data == content, f"{file.name} has other bytes")
        expect(recovered.floor_ms >= model.floor_ms, "the clock floor went back")
        known = {each.container_id: list(each.seqs) for each in recovered.pending}
        known |= {key: list(each.seqs) for key, each in recovered.stored.items()}
        if not model.may_go:
            for container, members in model.sealings.items():
                expect(known.get(container) == members, f"sealing {container} is lost")
        model.must_stay.update(names)

    async def _work(self, log: IngestLog, recovered: RecoveredLog) -> None:
        rng = self._rng
        kept = list(recovered.files)
        for step in range(rng.randint(1, 6)):
            works: list[Coroutine[Any, Any, None]] = [
                self._put(log, f"{self._epoch}-{step}-{index}", kept) for index in range(rng.randint(1, 8))
            ]
            choice = rng.random()
            if choice < 0.1:
                works.append(self._floor(log))
            elif choice < 0.2:
                works.append(self._seal(log, kept))
            elif choice < 0.3 and kept:
                gone = kept[: rng.randint(1, len(kept))]
                del kept[: len(gone)]
                self._model.may_go.update(file.name for file in gone)
                log.mark_stored(gone)
                works.append(_reclaim(log))
            tasks = [asyncio.ensure_future(work) for work in works]
            if rng.random() < 0.1:
                rng.choice(tasks).cancel()
            await _until_done(tasks, self._disk)
            if self._disk.off:
                raise PowerCut("during the work")
            for task in tasks:
                if not task.cancelled() and (error := task.exception()):
                    raise error

    async def _put(self, log: IngestLog, name: str, kept: list[OpenFile]) -> None:
        rng = self._rng
        content = rng.randbytes(self._size(name))
        self._model.submitted[name] = content
        crc32c = google_crc32c.value(content)
        data: bytes | None = content
        blocks: tuple[Extent, ...] = ()
        try:
            if content and rng.random() < 0.1:
                half = len(content) // 2
                parts = [part for part in (content[:half], content[half:]) if part]
                blocks = tuple([await log.append_block(part, google_crc32c.value(part)) for part in parts])
                data = None
                if rng.random() < 0.2:
                    log.release_blocks(blocks)
                    return
            file = await log.append_file(
                FileDraft(name, DAY, len(name), len(content), crc32c, name.encode(), data, blocks)
            )
        except DesError:
            return
        self._model.must_stay.add(name)
        kept.append(file)

    def _size(self, name: str) -> int:
        """Return a length that often ends a record at or beside a sector's edge."""
        rng = self._rng
        if rng.random() < 0.3:
            return rng.choice([0, 1, rng.randint(2, 900)])
        record = HEADER_SIZE + 2 * len(name)
        return max(0, rng.choice([1, 2, 3]) * SECTOR - record + rng.choice([-64, -1, 0, 1, 32]))

    async def _floor(self, log: IngestLog) -> None:
        floor = self._model.floor_ms + self._rng.randint(1, 1000)
        try:
            await log.append_floor(floor)
        except DesError:
            return
        self._model.floor_ms = floor

    async def _seal(self, log: IngestLog, kept: list[OpenFile]) -> None:
        members = sorted(file.seq for file in kept)
        container = f"container-{self._epoch}-{self._rng.getrandbits(32)}"
        try:
            await log.append_sealing(Sealing(container, DAY, 0, 4, 8, "framed", self._epoch, members))
            self._model.sealings[container] = members
            if self._rng.random() < 0.5:
                await log.append_stored(container, "etag")
        except DesError:
            return


async def _reclaim(log: IngestLog) -> None:
    try:
        await log.reclaim()
    except DesError:
        return


async def _until_done(tasks: Sequence[asyncio.Future[None]], disk: SimulatedDisk) -> None:
    for _ in range(PASSES_MAX):
        if disk.off or all(task.done() for task in tasks):
            break
        await asyncio.sleep(0)
    else:
        raise ViolationError("appends hang")
    for task in tasks:
        task.cancel()
    if disk.off:
        await asyncio.gather(*tasks, return_exceptions=True)


async def _abandon(log: IngestLog, disk: SimulatedDisk) -> None:
    """Stop the log's task without letting it write any more: the process is dead."""
    was_off, disk.off = disk.off, True
    try:
        await log.close()
    except (PowerCut, DesError):
        pass
    finally:
        disk.off = was_off


async def live(seeds: Iterable[int], *, log_type: type[IngestLog] = IngestLog) -> int:
    """Run a life per seed; return how many ran.

    Raises:
        ViolationError: a promise did not hold.
    """
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # tasks die with the power
    count = 0
    for seed in seeds:
        await Life(seed, log_type=log_type).run()
        count += 1
    return count
