from pathlib import Path
from random import Random

import pytest

from des.storage.posix_disk import PosixDisk
from des.testing.disk_suite import DiskSuite
from des.testing.simulated_disk import SimulatedDisk


class TestPosixDisk(DiskSuite):
    @pytest.fixture
    def disk(self, tmp_path: Path) -> PosixDisk:
        return PosixDisk(tmp_path)


class TestSimulatedDisk(DiskSuite):
    @pytest.fixture
    def disk(self) -> SimulatedDisk:
        return SimulatedDisk(Random(1))
