"""What a node seals is compressed where the settings say so, and reads back the same."""

import json
import random

import google_crc32c
import pytest

from des.files import FileSpec, FileState
from des.format.footer import FOOTER_SIZE, Footer
from des.format.header import HEADER_SIZE


def document(number):
    chance = random.Random(number)
    return json.dumps(
        {
            "id": number,
            "customer": f"customer-{chance.randrange(10**6)}",
            "tags": ["alpha", "beta"],
            "note": "as before",
        }
    ).encode()


async def fill(world, count=600):
    """Put documents, and long and random files between them; return their bytes by name."""
    files = {}
    odd = [b"", random.Random(1).randbytes(5000), b"the same line again\n" * 100_000]
    for data in [*(document(number) for number in range(count)), *odd]:
        spec = FileSpec(content_type="application/json", metadata={"n": "1"})
        world.clock.advance(0.001)  # a millisecond has 256 names
        result = await world.node.put_bytes(spec, data, google_crc32c.value(data))
        files[result.file.name] = data
    return files


async def seal(world, files):
    for shard in range(4):
        await world.node.seal_shard(shard)
    for name in files:
        assert (await world.node.stat(name)).state is FileState.STORED


async def containers(world):
    return [
        await world.store.get_range(info.key, 0, info.size)
        async for info in world.store.list("")
        if info.key.endswith(".des")
    ]


async def test_sealed_files_are_smaller_and_the_same(world):
    files = await fill(world)
    await seal(world, files)
    assert sum(map(len, await containers(world))) < sum(map(len, files.values())) / 2
    for name, data in files.items():
        file = await world.node.open_file(name)
        assert await file.read_whole() == data
        assert (file.info.size, file.info.crc32c) == (len(data), google_crc32c.value(data))
        assert file.info.content_type == "application/json"
        middle = len(data) // 2
        assert b"".join([piece async for piece in file.read(middle, len(data))]) == data[middle:]


async def test_a_dictionary_costs_one_request_for_all_files_of_a_container(world):
    files = await fill(world)
    await seal(world, files)
    await world.restart()
    costs = []
    for name in [name for name, data in files.items() if 0 < len(data) < 200]:
        file = await world.node.open_file(name)
        assert await file.read_whole() == files[name]
        costs.append(file.cost.requests)
    # Page, file, and one dictionary for each of at most four containers.
    assert sum(costs) <= 2 * len(costs) + 4
    assert sorted(costs)[len(costs) // 2] == 1


@pytest.mark.parametrize("change", [{"compression": "off"}, {"layout": "v1"}])
async def test_nothing_is_compressed_where_the_settings_say_so(world, change):
    world.settings = world.settings.model_copy(update=change)
    await world.restart()
    files = await fill(world, 300)
    await seal(world, files)
    for container in await containers(world):
        assert Footer.decode(container[-FOOTER_SIZE:]).data_start == HEADER_SIZE
    for name, data in files.items():
        assert await (await world.node.open_file(name)).read_whole() == data
        assert (await world.node.stat(name)).placement.data_length == len(data)
