"""A simulated disk for a log."""

from random import Random

import pytest

from des.testing.simulated_disk import SimulatedDisk


@pytest.fixture
def disk():
    return SimulatedDisk(Random(2))
