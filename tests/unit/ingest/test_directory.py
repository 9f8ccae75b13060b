"""The store's directory: one process, one identity, an epoch per start."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from random import Random
from uuid import UUID

import pytest

from des.ingest.directory import StoreDirectory, StoreFileError, StoreInUseError, StoreVersionError
from des.storage.posix_disk import PosixDisk
from des.testing.simulated_disk import Fault, PowerCut, SimulatedDisk

NODE = UUID(int=5)


@pytest.fixture
def disk():
    return SimulatedDisk(Random(2))


def test_the_node_stays_and_every_start_has_its_epoch(disk):
    first = StoreDirectory.open(disk, new_node=NODE)
    first.close()
    first.close()
    second = StoreDirectory.open(disk, new_node=UUID(int=6))
    assert (first.node_uuid, first.boot_epoch) == (NODE, 1)
    assert (second.node_uuid, second.boot_epoch) == (NODE, 2)
    assert json.loads(disk.content("store.json")) == {"format": 1, "node": str(NODE), "boot_epoch": 2}


def test_a_new_store_has_an_identity_of_its_own():
    nodes = {StoreDirectory.open(SimulatedDisk(Random(2))).node_uuid for _ in range(3)}
    assert len(nodes) == 3


def test_a_second_opening_is_refused_with_the_holder_named(disk):
    held = StoreDirectory.open(disk)
    with pytest.raises(StoreInUseError, match=f"process {os.getpid()}") as refused:
        StoreDirectory.open(disk)
    assert refused.value.details == {"holder": str(os.getpid())}
    held.close()
    StoreDirectory.open(disk).close()


def test_a_second_process_is_refused(tmp_path):
    held = StoreDirectory.open(PosixDisk(tmp_path / "store"))
    program = (
        "from pathlib import Path; from des.ingest.directory import StoreDirectory;"
        "from des.storage.posix_disk import PosixDisk; import sys;"
        "StoreDirectory.open(PosixDisk(Path(sys.argv[1])))"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert "StoreInUseError" in other.stderr
    assert f"process {os.getpid()}" in other.stderr
    held.close()
    again = StoreDirectory.open(PosixDisk(tmp_path / "store"))
    assert (again.node_uuid, again.boot_epoch) == (held.node_uuid, 2)
    again.close()


def test_a_newer_format_is_refused_untouched_and_unlocked(disk):
    disk.make_directory("")
    newer = b'{"format": 2, "what": "nobody knows"}'
    disk.overwrite("store.json", newer)
    with pytest.raises(StoreVersionError, match=r"format 2, .* supports up to 1"):
        StoreDirectory.open(disk)
    assert newer == disk.content("store.json")
    disk.lock("lock").release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"{}",
        b'{"format": "1"}',
        b'{"format": 0}',
        b'{"format": 1}',
        b'{"format": 1, "node": "x", "boot_epoch": 1}',
        b'{"format": 1, "node": 5, "boot_epoch": 1}',
        b'{"format": 1, "node": "00000000-0000-0000-0000-000000000005", "boot_epoch": "1"}',
        b'{"format": 1, "node": "00000000-0000-0000-0000-000000000005", "boot_epoch": -1}',
        b"\xff\xfe",
    ],
)
def test_a_store_file_that_is_not_one_is_refused_and_never_replaced(disk, content):
    disk.make_directory("")
    disk.overwrite("store.json", content)
    with pytest.raises(StoreFileError):
        StoreDirectory.open(disk)
    assert content == disk.content("store.json")


def test_an_epoch_that_was_given_is_never_given_again():
    """A power cut or a failure at any call, then another start: always the same node, a higher epoch."""
    for seed in range(40):
        for number in range(1, 30):
            disk = SimulatedDisk(Random(seed * 100 + number))
            given = [StoreDirectory.open(disk, new_node=NODE)]
            disk.crash()
            if seed % 2:
                disk.cut_at = disk.calls + number
            else:
                disk.faults.append(Fault(disk.calls + number, errno.EIO))
            with contextlib.suppress(PowerCut, OSError):
                given.append(StoreDirectory.open(disk))
            disk.crash()
            given.append(StoreDirectory.open(disk))
            assert {each.node_uuid for each in given} == {NODE}
            epochs = [each.boot_epoch for each in given]
            assert epochs == sorted(set(epochs))
