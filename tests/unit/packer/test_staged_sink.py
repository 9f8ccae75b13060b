"""A staging file written beside the work that makes its bytes."""

import errno
import os
from random import Random

import pytest

from des.packer.staged_sink import IN_FLIGHT_MAX, StagedSink
from des.testing.simulated_disk import SimulatedDisk

BUFFERS = [bytes([n]) * (1000 + n) for n in range(3 * IN_FLIGHT_MAX)]


@pytest.mark.parametrize("aside", [False, True])
def test_all_bytes_are_written_in_order_also_where_the_disk_takes_them_in_pieces(aside):
    disk = SimulatedDisk(Random(1))
    disk.short_writes = 0.7
    file = disk.create("staged")
    sink = StagedSink(file, aside=aside)
    for data in BUFFERS:
        assert sink.write(memoryview(data)) == len(data)
    sink.flush()
    assert file.pread(1 << 20, 0) == b"".join(BUFFERS)
    sink.close()
    sink.close()


def write_all(sink: StagedSink) -> None:
    """Which of the calls tells of a failure depends on the thread."""
    for data in BUFFERS:
        sink.write(data)
    sink.flush()


@pytest.mark.parametrize("aside", [False, True])
def test_a_full_disk_is_told_at_the_latest_when_flushed(aside):
    disk = SimulatedDisk(Random(2))
    file = disk.create("staged")
    disk.capacity = 5000
    sink = StagedSink(file, aside=aside)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_all(sink)
    sink.close()
