"""Bugs planted in the log's source, one at a time, and the layer of tests that finds each.

A mutant is the module's own source with one text replaced; a mutant that no longer applies fails here, so
the list keeps step with the code.
"""

import contextlib
import inspect
import types
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, NamedTuple

import google_crc32c
import pytest

import des.ingest.committer
import des.ingest.live
import des.ingest.log
import des.ingest.log_reader
import des.ingest.recovery
import des.ingest.scan
import des.ingest.writer
from des.ingest.errors import LogCorruptError, LogRecordGoneError
from des.ingest.log import IngestLog
from des.ingest.values import FileDraft
from des.testing.log_mutilations import draft, examine, flips, open_log, slips, small_log
from des.testing.log_schedules import DAY, ViolationError, live
from des.testing.simulated_disk import SimulatedDisk

Layer = Callable[[type[IngestLog]], Coroutine[Any, Any, object]]


async def crashes(log_type):
    await live(range(4000), log_type=log_type)


async def hurts(log_type):
    segments, files = await small_log()
    for hurt in [*slips(segments), *flips(segments)]:
        await examine(hurt, files, log_type=log_type)


async def rotting_reads(log_type):
    disk = SimulatedDisk(Random(3))
    log, _ = await open_log(disk, 1, log_type=log_type)
    file = await log.append_file(draft("a", b"abc"))
    disk.open(f"log/{disk.list('log')[0]}").pwrite([b"X"], file.extents[0].offset)
    shown = []
    for cold_reads in (0, 1):  # from memory, and from the device
        disk.cold_reads = cold_reads
        with contextlib.suppress(LogCorruptError):
            shown.append(await log.reader.read(file.extents[0]))
    await log.close()
    if shown:
        raise ViolationError(f"shows {shown}")


async def blocks_over_a_start(log_type):
    disk = SimulatedDisk(Random(3))
    log, _ = await open_log(disk, 1, log_type=log_type)
    crc32c = google_crc32c.value(b"x" * 500)
    block = await log.append_block(b"x" * 500, crc32c)
    fillers = [await log.append_file(draft(f"f{n}", b"1" * 300)) for n in range(3)]
    file = await log.append_file(FileDraft("a", DAY, 1, 500, crc32c, b"", None, (block,)))
    assert file.segment > block.segment
    await log.close()
    log, recovered = await open_log(disk, 2, log_type=log_type)
    log.mark_stored(recovered.files[: len(fillers)])
    await log.append_file(draft("new", b"1"))
    await log.reclaim()
    try:
        await log.reader.read(block)
    except LogRecordGoneError as error:
        raise ViolationError("a block of a file is gone") from error
    finally:
        await log.close()


WRITER, RECOVERY, SCAN, LOG = des.ingest.writer, des.ingest.recovery, des.ingest.scan, des.ingest.log
COMMITTER, LIVE, READER = des.ingest.committer, des.ingest.live, des.ingest.log_reader


class Mutant(NamedTuple):
    module: types.ModuleType
    edits: dict[str, str]
    layer: Layer


SYNC = "        segment.file.sync()\n        first_seq"
FAILED = "        if self.failure is not None:\n            raise _again(self.failure)\n"
COPY = "    temporary = last.path + TEMPORARY_SUFFIX\n"
COMMIT = "        committed = await self._blocking(\n            self._writer.commit,"
BETWEEN_SEGMENTS = "header.first_seq != before.scan.next_seq"

MUTANTS = {
    "acknowledge before the sync": Mutant(WRITER, {SYNC: "        first_seq"}, crashes),
    "publish before the sync": Mutant(
        LOG,
        {
            COMMIT: "        self._publish([open_file(e.file, 0, 0, 0, 0) for e in group if e.file])\n"
            + COMMIT
        },
        crashes,
    ),
    "forget the folder of a new segment": Mutant(
        WRITER, {"            self._disk.sync_directory(self._directory)\n": ""}, crashes
    ),
    "ignore a failed sync": Mutant(
        WRITER,
        {SYNC: "        with contextlib.suppress(OSError):\n    " + SYNC},
        crashes,
    ),
    "try a failed sync again": Mutant(
        WRITER,
        {
            SYNC: "        try:\n            segment.file.sync()\n        except OSError:\n"
            "            segment.file.sync()\n        first_seq"
        },
        crashes,
    ),
    "go on after a failure": Mutant(COMMITTER, {FAILED: ""}, crashes),
    "ignore a short write": Mutant(
        WRITER, {"            buffers[index] = buffers[index][taken:]": "            index += 1"}, crashes
    ),
    "end a recovered segment in place": Mutant(
        RECOVERY,
        {
            COPY: "    end_segment(file, salt=scan.header.salt, seq=scan.next_seq, prev_crc=scan.last_crc,"
            " time_ms=0, offset=scan.stop)\n    scan.next_seq += 1\n    return None\n    temporary = ''\n"
        },
        crashes,
    ),
    "leave the torn tail and append behind it": Mutant(
        RECOVERY, {COPY: "    file.sync()\n    return None\n    temporary = ''\n"}, crashes
    ),
    "believe an END that may be in memory only": Mutant(
        RECOVERY,
        {"        _write_again(file, scan.stop - END_SIZE, scan.stop)": "        file.sync()"},
        crashes,
    ),
    "forget the folder of the copy": Mutant(
        RECOVERY,
        {
            "    disk.rename(temporary, last.path)\n": "    disk.rename(temporary, last.path)\n"
            "    disk.sync_directory = lambda _: None\n"
        },
        crashes,
    ),
    "do not sync the copy": Mutant(
        RECOVERY,
        {"        offset = 0\n": "        offset = 0\n        copy.sync = lambda: None\n"},
        crashes,
    ),
    "remove segments without syncing each": Mutant(
        LOG, {"        self._disk.sync_directory(self._directory)\n": ""}, crashes
    ),
    "remove the newest segments first": Mutant(
        LIVE,
        {
            "self._by_number[min(self._by_number)] if self._by_number": "self._by_number["
            "sorted(self._by_number)[-2:][0]] if self._by_number"
        },
        crashes,
    ),
    "remove segments that files need": Mutant(LIVE, {"if oldest.pins or": "if"}, crashes),
    "let the clock floor go": Mutant(
        LOG, {"if segment.number == self._floor_segment:": "if False:"}, crashes
    ),
    "count no pins of blocks after a start": Mutant(
        RECOVERY, {"recovery.segments[extent.segment].pins += 1": "pass"}, blocks_over_a_start
    ),
    "check no data": Mutant(SCAN, {"value(buffer[data_at:stop]) != data_crc": "False"}, crashes),
    "check no names": Mutant(
        SCAN, {"extend(salt, buffer[at + header_size : data_at]) != text_crc": "False"}, crashes
    ),
    "check no header": Mutant(
        SCAN, {"extend(salt, buffer[at : at + summed_size]) != header_crc": "False"}, hurts
    ),
    "check no sequence": Mutant(
        SCAN,
        {"record_seq != seq or prev_crc != last_crc or not last_group <= group <= seq": "False"},
        hurts,
    ),
    "check no order of segments": Mutant(
        RECOVERY, {BETWEEN_SEGMENTS: "False", "segment.number != before.number + 1": "False"}, hurts
    ),
    "take every broken record for a torn tail": Mutant(
        RECOVERY, {"segment.later_group = later_group(file.pread, scan)": "pass"}, hurts
    ),
    "take every broken segment for the last": Mutant(
        RECOVERY, {BETWEEN_SEGMENTS: "False", "(not scan.ended and not last)": "False"}, hurts
    ),
    "write to a damaged log": Mutant(
        LOG, {"if cause := recovery.log.read_only_cause:": "if cause := '':"}, hurts
    ),
    "take a torn tail for damage": Mutant(SCAN, {"if due < group <= seq": "if due <= group <= seq"}, crashes),
    "hand out bytes unchecked": Mutant(
        READER,
        {"google_crc32c.value(data) != extent.crc32c:": "False:"},
        rotting_reads,
    ),
}


def mutated(mutant: Mutant) -> dict[str, Any]:
    source = inspect.getsource(mutant.module)
    for old, new in mutant.edits.items():
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {mutant.module.__name__}"
        source = source.replace(old, new)
    namespace: dict[str, Any] = {"__name__": mutant.module.__name__}
    exec(compile(source, f"<mutant of {mutant.module.__name__}>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_planted_bug_is_found(name, monkeypatch):
    mutant = MUTANTS[name]
    namespace = mutated(mutant)
    log_type = IngestLog
    if mutant.module is WRITER:
        monkeypatch.setattr("des.ingest.log.SegmentWriter", namespace["SegmentWriter"])
        monkeypatch.setattr("des.ingest.recovery.write_all", namespace["write_all"])
    elif mutant.module is SCAN:
        monkeypatch.setattr("des.ingest.recovery.scan_segment", namespace["scan_segment"])
        monkeypatch.setattr("des.ingest.recovery.later_group", namespace["later_group"])
    elif mutant.module is COMMITTER:
        monkeypatch.setattr("des.ingest.log.Committer", namespace["Committer"])
    elif mutant.module is LIVE:
        monkeypatch.setattr("des.ingest.log.LiveSegments", namespace["LiveSegments"])
    elif mutant.module is READER:
        monkeypatch.setattr("des.ingest.log.LogReader", namespace["LogReader"])
    elif mutant.module is RECOVERY:
        monkeypatch.setattr("des.ingest.log.recover", namespace["recover"])
    else:
        log_type = namespace["IngestLog"]
    with pytest.raises(ViolationError):
        await mutant.layer(log_type)


async def test_without_a_bug_the_layers_of_this_file_do_not_complain():
    for layer in (rotting_reads, blocks_over_a_start):
        await layer(IngestLog)
