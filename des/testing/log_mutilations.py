"""A small log on a simulated disk, every way to hurt its bytes, and what must be found.

Rot and slips of the hand, not crashes: a log that was closed in order must show its files unchanged, or
say that it is damaged, and may never show other bytes.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import google_crc32c

from des.config.settings import LogSettings
from des.errors import DesError
from des.ingest import record
from des.ingest.log import IngestLog
from des.ingest.segment import HEADER_SIZE
from des.ingest.values import FileDraft, OpenFile, RecoveredLog, Sealing
from des.testing.log_schedules import DAY, NODE, Ticks, ViolationError
from des.testing.simulated_disk import SimulatedDisk

CONTENTS: Final = {f"file-{number}": bytes([number]) * (number * 37 % 200) for number in range(9)}
SETTINGS: Final = LogSettings.model_validate(
    {"segment_bytes": 700, "group_bytes": 300, "reserve_free_bytes": 0, "reclaim_delay_s": 0}
)


def log_settings(**changes: Any) -> LogSettings:
    """Return the settings of a small log, with changes."""
    return LogSettings.model_validate({**SETTINGS.model_dump(), **changes})


def segment_paths(disk: SimulatedDisk) -> list[str]:
    """Return the paths of the log's segments."""
    return [f"log/{name}" for name in disk.list("log")]


async def open_log(
    disk: SimulatedDisk,
    boot_epoch: int,
    *,
    settings: LogSettings = SETTINGS,
    executor: Executor | None = None,
    log_type: type[IngestLog] = IngestLog,
    disk_share: float = 1.0,
) -> tuple[IngestLog, RecoveredLog]:
    """Open the log on a simulated disk."""
    return await log_type.open(
        disk,
        clock=Ticks(),
        node=NODE,
        boot_epoch=boot_epoch,
        settings=settings,
        executor=executor,
        publish=lambda _: None,
        salt=lambda: disk.rng.getrandbits(32),
        disk_share=disk_share,
    )


def draft(name: str, data: bytes) -> FileDraft:
    """Return a file with recognisable facts."""
    return FileDraft(name, DAY, 7, len(data), google_crc32c.value(data), name.encode(), data)


async def small_log() -> tuple[dict[str, bytes], list[OpenFile]]:
    """Return the segment files of a log with a few segments, closed in order, and its files."""
    disk = SimulatedDisk(Random(5))
    log, _ = await open_log(disk, 1)
    files = [await log.append_file(draft(*item)) for item in CONTENTS.items()]
    await log.append_floor(1234)
    await log.append_sealing(Sealing("c", DAY, 0, 1, 8, "framed", 1, [files[0].seq, files[1].seq]))
    half = b"x" * 100
    crc32c = google_crc32c.value(half)
    blocks = (await log.append_block(half, crc32c), await log.append_block(half, crc32c))
    whole = google_crc32c.value(half + half)
    files.append(await log.append_file(FileDraft("two-blocks", DAY, 7, 200, whole, b"", None, blocks)))
    await log.close()
    paths = [f"log/{name}" for name in disk.list("log")]
    return {path: disk.content(path) for path in paths}, files


def records(content: bytes) -> list[tuple[int, int]]:
    """Return start and stop of each record of a segment."""
    found = []
    at = HEADER_SIZE
    while at < len(content):
        fields = record.HEADER.unpack_from(content, at)
        stop = at + record.HEADER_SIZE + fields[3] + fields[4] + fields[5]
        found.append((at, stop))
        at = stop
    return found


async def filled_log(disk: SimulatedDisk, **changes: Any) -> tuple[IngestLog, list[OpenFile]]:
    """Return a log over several segments, with `log_settings(**changes)`, and its eight files."""
    log, _ = await open_log(disk, 1, settings=log_settings(**changes))
    return log, [await log.append_file(draft(f"f{n}", bytes([n]) * 200)) for n in range(8)]


@dataclass(frozen=True, slots=True)
class Hurt:
    """A log after something happened to its bytes."""

    name: str
    segments: dict[str, bytes]
    silent: bool = False
    """Nothing in the log can tell this from a crash or from reclaiming: files may be missing."""


def flips(segments: dict[str, bytes]) -> Iterator[Hurt]:
    """Change every single byte, one at a time."""
    for path, content in segments.items():
        for index in range(len(content)):
            hurt = bytearray(content)
            hurt[index] ^= 1 << index % 8
            yield Hurt(f"flip {path}:{index}", {**segments, path: bytes(hurt)})


def slips(segments: dict[str, bytes]) -> Iterator[Hurt]:
    """Lose, repeat and exchange whole segments and whole records; cut segments anywhere."""
    first, last = min(segments), max(segments)
    for path, content in segments.items():
        others = {key: value for key, value in segments.items() if key != path}
        yield Hurt(f"lose {path}", others, silent=path in {first, last})
        places = records(content)
        for (start, stop), following in zip(places, [*places[1:], None], strict=True):
            yield Hurt(f"lose {path}:{start}", {**others, path: content[:start] + content[stop:]})
            yield Hurt(f"repeat {path}:{start}", {**others, path: content[:stop] + content[start:]})
            if following:
                swapped = content[:start] + content[slice(*following)] + content[start:stop]
                yield Hurt(f"swap {path}:{start}", {**others, path: swapped + content[following[1] :]})
        for other, foreign in others.items():
            yield Hurt(f"copy {other} over {path}", {**others, path: foreign})
        for size in range(len(content)):
            yield Hurt(f"cut {path} to {size}", {**others, path: content[:size]}, silent=path == last)


async def examine(hurt: Hurt, files: list[OpenFile], *, log_type: type[IngestLog] = IngestLog) -> bool:
    """Open a hurt log; return whether the hurt was found.

    Raises:
        ViolationError: something shown is wrong; or files are missing and nothing says so; or there is
            damage and the log takes writes.
    """
    disk = SimulatedDisk(Random(6))
    disk.make_directory("log")
    for path, content in hurt.segments.items():
        disk.overwrite(path, content)
    try:
        log, recovered = await open_log(disk, 2, log_type=log_type)
    except DesError:
        return True
    try:
        written = {file.seq: file for file in files}
        for file in recovered.files:
            if written.get(file.seq) != file:
                raise ViolationError(f"{hurt.name}: shows {file}")
            await _read(log, file, hurt, damaged=bool(recovered.damage))
        log.mark_stored(recovered.files)
        if recovered.damage:
            if await log.reclaim():
                raise ViolationError(f"{hurt.name}: a damaged log was reclaimed")
            if log.failure is None:
                raise ViolationError(f"{hurt.name}: damage {recovered.damage} and writes go on")
            return True
        if recovered.files != files and not hurt.silent:
            raise ViolationError(f"{hurt.name}: shows {len(recovered.files)} files in silence")
        return False
    finally:
        await log.close()


async def _read(log: IngestLog, file: OpenFile, hurt: Hurt, *, damaged: bool) -> None:
    try:
        data = b"".join([await log.reader.read(extent) for extent in file.extents])
    except DesError as error:
        if damaged or hurt.silent:
            return
        raise ViolationError(f"{hurt.name}: {file.name} is shown and not readable") from error
    if data != CONTENTS.get(file.name, b"x" * 200):
        raise ViolationError(f"{hurt.name}: {file.name} has other bytes")
