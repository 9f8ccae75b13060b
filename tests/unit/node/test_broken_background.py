"""What nobody foresaw breaks one piece of background work once: it is shown, and the work goes on."""

import errno
from contextlib import suppress

import google_crc32c

from des.config import load_settings
from des.db.catalog import ContainerState
from des.files import FileSpec, FileState
from des.node.background import AGAIN_S, SHOWN_S
from des.packer.health import CheckState
from des.testing.simulated_clock import settle


async def put(node, data: bytes = b"x"):
    return (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file


async def node_with(world, **settings):
    await world.node.close()
    world.settings = load_settings(data_dir=world.settings.data_dir, shard_bits=2, **settings)
    return await world.start()


async def found_of(node):
    (check,) = [check for check in node.health_checks() if check.name == "background"]
    return await check.look()


async def step_until(node, over) -> None:
    """Let the packer work, whatever it raises, until `over` returns True."""
    for _ in range(100):
        with suppress(Exception):
            await node._packer.step()
        if await over():
            return
    raise AssertionError("100 steps did not do it")


async def test_a_seal_that_meets_an_unforeseen_error_is_made_later(world, monkeypatch) -> None:
    node = await node_with(world, seal={"age_s": 100})
    file = await put(node)

    def build(*_args, **_kwargs):
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(node._packer._containers._builder, "build", build)
    world.clock.advance(101)
    with suppress(RuntimeError):
        await node._packer.step()
    assert "nobody thought of this" in node._packer.seal_error
    monkeypatch.undo()
    world.clock.advance(10)

    async def is_stored() -> bool:
        return (await node.stat(file.name)).state is FileState.STORED

    await step_until(node, is_stored)
    assert not node._packer.seal_error


async def test_a_seal_that_never_succeeds_does_not_hold_up_the_others(world, monkeypatch) -> None:
    node = await node_with(world, seal={"entries": 5, "age_s": 10**6})
    while sum(bucket.files >= 5 for bucket in node._open_index.buckets()) < 2:
        await put(node)
    containers = node._packer._containers
    store, poison = containers.store, []

    async def one_is_poison(sealing, files):
        if sealing.container_id in poison or not poison:
            poison[:] = [sealing.container_id]
            raise ValueError("poison")
        return await store(sealing, files)

    monkeypatch.setattr(containers, "store", one_is_poison)

    async def other_is_stored() -> bool:
        world.clock.advance(10)
        return bool(await world.catalog.containers(state=ContainerState.STORED))

    await step_until(node, other_is_stored)
    assert "poison" in node._packer.seal_error


async def test_an_error_of_the_store_that_nobody_foresaw_does_not_end_sealing(world, monkeypatch) -> None:
    node = await node_with(world, seal={"age_s": 100})
    file = await put(node)
    create, created = world.store.create, []

    async def breaks_once(key, body, *, metadata):
        if key.endswith(".des"):
            created.append(key)
            if len(created) == 1:
                raise OSError(errno.EIO, "planned")
        return await create(key, body, metadata=metadata)

    monkeypatch.setattr(world.store, "create", breaks_once)
    world.clock.advance(101)
    with suppress(OSError):
        await node._packer.step()
    world.clock.advance(10)

    async def is_stored() -> bool:
        return (await node.stat(file.name)).state is FileState.STORED

    await step_until(node, is_stored)
    assert len(created) >= 2


async def test_locks_are_renewed_after_an_unforeseen_error_and_health_tells_of_it(world, monkeypatch) -> None:
    node = world.node
    assert (await found_of(node)).state is CheckState.OK
    renew, calls = world.catalog.renew_shards, []

    async def breaks_once(*args, **kwargs):
        calls.append(True)
        if len(calls) == 1:
            raise RuntimeError("nobody thought of this")
        return await renew(*args, **kwargs)

    monkeypatch.setattr(world.catalog, "renew_shards", breaks_once)
    await world.clock.run_for(11)
    found = await found_of(node)
    assert found.state is CheckState.DEGRADED
    assert "nobody thought of this" in found.found
    await world.clock.run_for(AGAIN_S + 20)
    assert len(calls) >= 2
    await world.clock.run_for(SHOWN_S)
    assert (await found_of(node)).state is CheckState.OK


async def test_what_is_to_be_stored_is_shipped_after_an_unforeseen_error(world, monkeypatch) -> None:
    node = await node_with(world, stored={"any_store": True})
    shipper = node._parts.shipper
    step, calls = shipper.step, []

    async def breaks_once():
        calls.append(True)
        if len(calls) == 1:
            raise RuntimeError("nobody thought of this")
        return await step()

    monkeypatch.setattr(shipper, "step", breaks_once)
    file = await put(node)
    opened = node._open_index.get(file.name)
    shipper.waits.enter(opened)
    await settle()
    await world.clock.run_for(AGAIN_S + 5)
    assert len(calls) > 1
    (error,) = await shipper.wait_stored([opened])
    assert error is None
