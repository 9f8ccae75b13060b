"""What others wrote: newer versions, other nodes, content that looks like a log."""

from random import Random

import google_crc32c
import pytest

from des.ingest.errors import (
    LogReadOnlyError,
)
from des.ingest.record import LogVersionError
from des.testing.log_mutilations import draft, filled_log, log_settings, open_log, records, segment_paths
from des.testing.simulated_disk import SimulatedDisk


async def test_a_newer_segment_is_refused_untouched(disk):
    log, _ = await filled_log(disk)
    await log.close()
    path = segment_paths(disk)[0]
    header = bytearray(disk.content(path)[:60])
    header[8] = 2
    newer = bytes(header) + google_crc32c.value(bytes(header)).to_bytes(4, "little") + disk.content(path)[64:]
    disk.overwrite(path, newer)
    with pytest.raises(LogVersionError, match="version 2"):
        await open_log(disk, 2)
    assert newer == disk.content(path)


async def test_a_record_of_an_unknown_kind_is_refused_untouched(disk):
    log, _ = await filled_log(disk)
    salt = log._segments.find(1).header.salt
    await log.close()
    path = segment_paths(disk)[0]
    content = bytearray(disk.content(path))
    start, _ = records(bytes(content))[0]
    content[start + 4] = 99
    crc32c = google_crc32c.extend(salt, bytes(content[start : start + 60]))
    content[start + 60 : start + 64] = crc32c.to_bytes(4, "little")
    disk.overwrite(path, bytes(content))
    with pytest.raises(LogVersionError, match="kind 99"):
        await open_log(disk, 2)


async def test_a_log_of_another_node_or_of_a_later_start_is_read_only(disk):
    log, _ = await filled_log(disk)
    await log.close()
    log, recovered = await open_log(disk, 0)
    assert "start 1" in recovered.damage[0].cause
    assert isinstance(log.failure, LogReadOnlyError)
    await log.close()


async def test_a_segment_that_was_never_used_is_forgotten(disk):
    disk.make_directory("log")
    for name, content in {
        "log-00000001-00000001.dlog": bytes(700),
        "log-00000001-00000001.dlog.tmp": b"half a copy",
        "README": b"not ours",
    }.items():
        disk.overwrite(f"log/{name}", content)
    log, recovered = await open_log(disk, 2)
    assert recovered.read_only_cause is None
    assert disk.list("log") == ["README"]
    file = await log.append_file(draft("a", b"1"))
    assert (file.seq, file.segment) == (1, 1)
    await log.close()


async def test_content_that_is_itself_a_log_is_only_content(disk):
    """No scanning for magic, and checksums that start from a secret: payload is never believed."""
    log, _ = await filled_log(disk)
    await log.close()
    payload = b"".join(disk.content(path) for path in segment_paths(disk))
    other = SimulatedDisk(Random(2))  # the same salts even
    log, _ = await open_log(other, 1, settings=log_settings(segment_bytes=1 << 16))
    await log.append_file(draft("a", payload))
    other.restart()
    path = segment_paths(other)[0]
    stop = records(other.content(path)[: 64 + 64 + 2 + len(payload)])[0][1]
    other.overwrite(path, other.content(path)[: stop - 1])  # torn in its last byte
    log, recovered = await open_log(other, 2, settings=log_settings(segment_bytes=1 << 16))
    assert recovered.files == []
    await log.close()
