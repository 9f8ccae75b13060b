"""Many files in one read: every byte and error as for one file alone, for far fewer requests."""

import os
from typing import Any

import google_crc32c
import pytest

from des.config import load_settings
from des.db.catalog import CatalogUnavailableError
from des.errors import DesError
from des.files import FileSpec, FileState
from des.ingest.errors import LogRecordGoneError
from des.node import Node
from des.node.put_many import WholeFile
from des.retrieval import ReadCost, Wanted, batch_frames
from des.storage.object_store import ObjectStoreUnavailableError

KIB = 1 << 10
MIB = 1 << 20


def content(i: int) -> bytes:
    """Some of no bytes, some that compress, some that do not."""
    return os.urandom(i * 7 % 900) if i % 3 else b"line %d of a file\n" % i * (i % 70)


async def put_all(world: Any, files: list[bytes], **spec: Any) -> dict[str, bytes]:
    names: dict[str, bytes] = {}
    for start in range(0, len(files), 200):  # a millisecond has 256 names
        world.clock.advance(0.001)
        some = files[start : start + 200]
        items = [WholeFile(FileSpec(**spec), data, google_crc32c.value(data)) for data in some]
        results = await world.node.put_many(items)
        names |= {result.file.name: data for result, data in zip(results, some, strict=True)}
    return names


async def seal_all(node: Node) -> None:
    for shard in range(1 << node.settings.shard_bits):
        await node.seal_shard(shard)


async def read_all(node: Node, wanted: list[Wanted], *, part_bytes: int = MIB, cost: ReadCost | None = None):
    """Return data by place, errors by place, and the places in the order they came."""
    data: dict[int, bytes] = {}
    errors: dict[int, DesError] = {}
    order: list[int] = []
    ended: set[int] = set()
    async for parts in node.read_many(wanted, part_bytes=part_bytes, cost=cost or ReadCost()):
        for part in parts:
            assert part.at not in ended
            if part.last:
                ended.add(part.at)
            if part.error is not None:
                assert part.last
                errors[part.at] = part.error
                continue
            assert len(part.data) <= part_bytes
            assert google_crc32c.value(part.data) == part.crc32c
            if part.at not in data:
                assert part.info is not None
                assert part.info.name == wanted[part.at].name
                order.append(part.at)
                data[part.at] = b""
                first = part.offset
            else:
                assert part.info is None
                assert part.offset == first + len(data[part.at])
            data[part.at] += part.data
    assert ended == set(range(len(wanted)))
    return data, errors, order


async def test_open_and_sealed_files_come_back_whole_with_what_is_known_of_them(world) -> None:
    sealed = await put_all(world, [content(i) for i in range(400)], content_type="a/b", metadata={"k": "v"})
    await seal_all(world.node)
    files = sealed | await put_all(world, [content(i) for i in range(400)])
    names = list(files)
    data, errors, _ = await read_all(world.node, [Wanted(name) for name in names])
    assert not errors
    assert {names[at]: found for at, found in data.items()} == files
    alone = [await world.node.stat(name) for name in names]
    together = []
    async for parts in world.node.read_many(
        [Wanted(name) for name in names], part_bytes=MIB, cost=ReadCost()
    ):
        together += [part.info for part in parts]
    assert sorted(together, key=lambda info: info.name) == sorted(alone, key=lambda info: info.name)
    assert await world.node.stat_many(names, cost=ReadCost()) == alone
    assert {info.state for info in alone} == {FileState.OPEN, FileState.STORED}


async def test_files_come_in_the_order_they_are_stored(world) -> None:
    for sealed in (False, True):
        files = await put_all(world, [b"%d" % i for i in range(100)])
        names = list(files)[::-1]
        if sealed:
            await seal_all(world.node)
        _, _, order = await read_all(world.node, [Wanted(name) for name in names])
        if sealed:
            infos = [await world.node.stat(names[at]) for at in order]
            keys = [(info.placement.container_id, info.placement.data_offset) for info in infos]
            assert keys == sorted(keys)
        else:
            assert order == list(range(99, -1, -1))


async def test_a_container_costs_few_requests_however_many_files_are_read(world, monkeypatch) -> None:
    files = await put_all(world, [os.urandom(500) for _ in range(3000)])
    await seal_all(world.node)
    containers = len(await world.catalog.containers())
    cost = ReadCost()
    data, errors, _ = await read_all(world.node, [Wanted(name) for name in files], cost=cost)
    assert len(data) == 3000
    assert not errors
    assert cost.requests <= 4 * containers
    warm = ReadCost()
    await read_all(world.node, [Wanted(name) for name in files], cost=warm)
    assert warm.requests <= containers
    stated = ReadCost()
    assert len(await world.node.stat_many(list(files), cost=stated)) == 3000
    assert stated.requests <= containers


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [
        (0, 0, b"0123456789"),
        (3, 4, b"3456"),
        (-3, 0, b"789"),
        (-30, 2, b"01"),
        (9, 100, b"9"),
        (10, 0, b""),
    ],
)
async def test_windows_are_cut_as_from_one_file(world, sealed, offset, limit, expected) -> None:
    files = await put_all(world, [b"0123456789"])
    big = await put_all_big(world.node, bytes(range(256)) * 10240)
    if sealed:
        await seal_all(world.node)
    (name,) = files
    wanted = [Wanted(name, offset, limit), Wanted(big, offset, limit)]
    data, errors, _ = await read_all(world.node, wanted)
    assert not errors
    assert data[0] == expected
    whole = bytes(range(256)) * 10240
    start = offset if offset >= 0 else len(whole) + offset
    assert data[1] == whole[start : start + limit if limit else None]


async def put_all_big(node: Node, data: bytes) -> str:
    result = await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
    return result.file.name


@pytest.mark.parametrize("sealed", [False, True])
async def test_long_and_external_files_come_in_parts_beside_short_ones(world, sealed) -> None:
    long = os.urandom(MIB - 1)
    external = os.urandom(3 * MIB + 5)
    files = await put_all(world, [b"short", long])
    files |= {await put_all_big(world.node, external): external}
    if sealed:
        await seal_all(world.node)
    names = list(files)
    data, errors, _ = await read_all(world.node, [Wanted(name) for name in names], part_bytes=100 * KIB)
    assert not errors
    assert {names[at]: found for at, found in data.items()} == files


@pytest.mark.parametrize("sealed", [False, True])
async def test_bad_items_fail_alone_with_the_error_of_a_single_read(world, sealed) -> None:
    files = await put_all(world, [b"good", b""])
    if sealed:
        await seal_all(world.node)
    name, empty = files
    (unknown,) = [each.name for each in await world.node.assign_names(1, "", "")]
    wanted = [
        Wanted(name),
        Wanted("no name"),
        Wanted(unknown),
        Wanted(name, 5, 0),
        Wanted(name, 0, -1),
        Wanted(name, 1, 2),
        Wanted(empty, 1, 0),
        Wanted(""),
        Wanted(name[:-1] + "x"),
        Wanted("ż" + name[1:]),
        Wanted(name),
    ]
    data, errors, _ = await read_all(world.node, wanted)
    assert data == {0: b"good", 5: b"oo", 10: b"good"}
    assert {at: error.reason for at, error in errors.items()} == {
        1: "INVALID_NAME",
        2: "FILE_NOT_FOUND",
        3: "RANGE_NOT_SATISFIABLE",
        4: "INVALID_FIELD",
        6: "RANGE_NOT_SATISFIABLE",
        7: "INVALID_NAME",
        8: "INVALID_NAME",
        9: "INVALID_NAME",
    }
    stated = await world.node.stat_many([each.name for each in wanted], cost=ReadCost())
    reasons = [found.reason if isinstance(found, DesError) else "" for found in stated]
    assert reasons == [
        *("", "INVALID_NAME", "FILE_NOT_FOUND", "", "", "", ""),
        *("INVALID_NAME", "INVALID_NAME", "INVALID_NAME", ""),
    ]


async def test_a_damaged_frame_is_told_and_its_neighbours_are_read(world) -> None:
    files = await put_all(world, [os.urandom(300) for _ in range(40)])
    await seal_all(world.node)
    names = list(files)
    hurt = await world.node.stat(names[17])
    row = await world.catalog.container(hurt.placement.container_id)
    body = bytearray(await world.store.get_range(row.key, 0, row.geometry.size))
    body[hurt.placement.data_offset + 5] ^= 1
    kept = world.store._objects[row.key]
    world.store._objects[row.key] = type(kept)(bytes(body), kept.info)
    data, errors, _ = await read_all(world.node, [Wanted(name) for name in names])
    assert {at: error.reason for at, error in errors.items()} == {17: "CONTAINER_CORRUPT"}
    assert len(data) == 39


async def test_what_cannot_be_asked_is_unavailable_and_never_absent(world, monkeypatch) -> None:
    files = await put_all(world, [os.urandom(300) for _ in range(20)])
    await seal_all(world.node)
    opened = await put_all(world, [b"open"])
    await world.restart()
    wanted = [Wanted(name) for name in [*files, *opened]]

    async def refuse(*_args: Any, **_kwargs: Any) -> bytes:
        raise ObjectStoreUnavailableError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "get_range", refuse)
        data, errors, _ = await read_all(world.node, wanted)
        assert data == {20: b"open"}
        assert {error.reason for error in errors.values()} == {"BACKEND_UNAVAILABLE"}

    await world.restart()

    async def no_catalog(*_args: Any, **_kwargs: Any) -> list[Any]:
        raise CatalogUnavailableError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(world.catalog, "containers_of", no_catalog)
        data, errors, _ = await read_all(world.node, wanted)
        assert data == {20: b"open"}
        assert {error.reason for error in errors.values()} == {"BACKEND_UNAVAILABLE"}
    data, errors, _ = await read_all(world.node, wanted)
    assert len(data) == 21


async def test_containers_of_the_layout_v1_are_read_too(world) -> None:
    await world.node.close()
    world.settings = load_settings(data_dir=world.settings.data_dir, shard_bits=1, layout="v1")
    await world.start()
    files = await put_all(world, [content(i) for i in range(60)], metadata={"k": "v"})
    await seal_all(world.node)
    names = list(files)
    data, errors, _ = await read_all(world.node, [Wanted(name) for name in names])
    assert not errors
    assert {names[at]: found for at, found in data.items()} == files
    stated = await world.node.stat_many(names, cost=ReadCost())
    assert [dict(info.metadata) for info in stated] == [{"k": "v"}] * 60


async def test_no_more_requests_are_ahead_than_the_window_allows(world, monkeypatch) -> None:
    monkeypatch.setattr(batch_frames, "STORE_SPAN_MAX", 4 * KIB)
    files = await put_all(world, [os.urandom(KIB) for _ in range(300)])
    await seal_all(world.node)
    begun = 0
    kept = world.store.get_range

    async def count(*args: Any, **kwargs: Any) -> bytes:
        nonlocal begun
        begun += 1
        return await kept(*args, **kwargs)

    wanted = [Wanted(name) for name in files]
    await read_all(world.node, wanted)  # pages
    monkeypatch.setattr(world.store, "get_range", count)
    used = 0
    async for _ in world.node.read_many(wanted, part_bytes=MIB, cost=ReadCost()):
        used += 1
        assert begun <= used + batch_frames.SPANS_AHEAD
    assert begun >= 60


async def test_files_whose_segment_went_meanwhile_come_from_their_container(world, monkeypatch) -> None:
    files = await put_all(world, [os.urandom(300) for _ in range(30)])
    names = list(files)
    gone: list[int] = []
    real = world.node._log.reader.read_span

    async def read_span(segment: int, start: int, stop: int) -> bytes:
        if not gone:
            monkeypatch.setattr(world.node._log.reader, "read_span", real)  # a seal reads that way too
            await seal_all(world.node)
            monkeypatch.setattr(world.node._log.reader, "read_span", read_span)
        gone.append(segment)
        raise LogRecordGoneError(f"segment {segment} was reclaimed")

    monkeypatch.setattr(world.node._log.reader, "read_span", read_span)
    data, errors, _ = await read_all(world.node, [Wanted(name) for name in names])
    assert gone
    assert not errors
    assert {names[at]: some for at, some in data.items()} == files


async def test_a_file_that_comes_home_while_a_batch_looks_for_it_is_not_called_missing(world) -> None:
    data = b"came home"
    name = (await world.node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name
    places = world.node._retriever._batches._places
    index = places._open_index

    class Late:
        """Has nothing at the first look."""

        looks = 0

        def get(self, wanted):
            self.looks += 1
            return index.get(wanted) if self.looks > 1 else None

    places._open_index = Late()
    (found,) = await world.node.stat_many([name], cost=ReadCost())
    assert (found.name, found.size) == (name, len(data))
