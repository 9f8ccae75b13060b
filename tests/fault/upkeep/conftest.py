"""The store that is looked after."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fault.upkeep.upkeep_world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    node = await world.node()
    await world.fill(node)
    await node.close()
    return world
