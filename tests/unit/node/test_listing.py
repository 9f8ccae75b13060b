"""Listing: every name once, in order, whatever grows, moves or goes between two pages."""

import random
from dataclasses import replace
from typing import Any

import google_crc32c
import pytest

from des.errors import UnavailableError
from des.files import FileSpec, FileState
from des.ingest.name_order import NameOrder
from des.naming import consistent_hash, created_ms, parse_name
from des.node import Node
from des.node.put_many import WholeFile
from des.retrieval import ReadCost, listing
from des.retrieval.listing import ListQuestion
from des.storage.object_store import ObjectStoreUnavailableError

DAY_S = 86_400


async def put(world: Any, count: int, prefix: str = "", **spec: Any) -> list[str]:
    names = []
    for start in range(0, count, 100):
        world.clock.advance(0.002)
        some = range(start, min(count, start + 100))
        items = [
            WholeFile(FileSpec(prefix=prefix, **spec), b"%d" % i, google_crc32c.value(b"%d" % i))
            for i in some
        ]
        names += [result.file.name for result in await world.node.put_many(items)]
    return names


async def seal_all(node: Node) -> None:
    for shard in range(1 << node.settings.shard_bits):
        await node.seal_shard(shard)


async def pages(node: Node, question: ListQuestion, limit: int, between: Any = None, **options: Any):
    """Return all files, page by page; `between` is awaited after each page."""
    after, found = None, []
    while True:
        page = await node.list_files(
            question, after=after, limit=limit, cost=ReadCost(), **{"names_only": True, **options}
        )
        assert len(page.files) <= limit
        found.append(page.files)
        if page.next is None:
            return found
        assert after is None or page.next > after
        after = page.next
        if between is not None:
            await between()


async def names_of(node: Node, question: ListQuestion | None = None, limit: int = 7, **options: Any):
    found = await pages(node, question or ListQuestion(), limit, **options)
    return [info.name for page in found for info in page]


def in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (parse_name(name).day, name))


async def test_open_and_sealed_files_of_several_days_and_prefixes_come_in_order(world) -> None:
    names = await put(world, 30) + await put(world, 10, prefix="AAA")
    await seal_all(world.node)
    names += await put(world, 20, prefix="ZZZ") + await put(world, 20)
    world.clock.advance(DAY_S)
    names += await put(world, 15)
    await world.node.seal_shard(1)
    names += await put(world, 15, prefix="AAA")
    for limit in (1, 7, 1000):
        assert await names_of(world.node, limit=limit) == in_order(names)
    day = parse_name(names[0]).day
    assert await names_of(world.node, ListQuestion(day=day)) == sorted(names[:80])
    assert await names_of(world.node, ListQuestion(prefix="AAA")) == in_order(
        [name for name in names if name.startswith("AAA")]
    )
    assert await names_of(world.node, ListQuestion(prefix=names[3])) == [names[3]]
    assert await names_of(world.node, ListQuestion(prefix="B")) == []
    assert await names_of(world.node, ListQuestion(day="20200101")) == []


async def test_shards_and_times_choose(world) -> None:
    names = await put(world, 200)
    await seal_all(world.node)
    names += await put(world, 200)
    bits = world.settings.shard_bits
    for shards in ({0}, {1, 3}):
        expected = [name for name in in_order(names) if consistent_hash(name, bits) in shards]
        assert await names_of(world.node, ListQuestion(shards=frozenset(shards))) == expected
    times = {name: created_ms(parse_name(name), world.settings.wrap_bits) for name in names}
    low, high = times[names[90]], times[names[310]]
    expected = [name for name in in_order(names) if low < times[name] < high]
    assert 0 < len(expected) < 300
    question = ListQuestion(created_after_ms=low, created_before_ms=high)
    assert await names_of(world.node, question) == expected


async def test_a_file_that_is_sealed_between_pages_neither_vanishes_nor_doubles(world) -> None:
    names = await put(world, 300)
    shard = iter(range(1 << world.settings.shard_bits))

    async def seal_one() -> None:
        number = next(shard, None)
        if number is not None:
            await world.node.seal_shard(number)

    assert await names_of(world.node, limit=40, between=seal_one) == in_order(names)


async def test_names_that_come_while_it_is_listed_do_not_disturb_those_that_were_there(world) -> None:
    rng = random.Random(3)
    names = await put(world, 200, prefix="MMM")
    later: list[str] = []

    async def grow() -> None:
        later.extend(await put(world, 9, prefix=rng.choice(["AAA", "MMM", "ZZZ"])))
        if rng.random() < 0.4:
            await world.node.seal_shard(rng.randrange(1 << world.settings.shard_bits))

    found = await names_of(world.node, limit=13, between=grow)
    assert found == in_order(found)
    assert len(found) == len(set(found))
    assert [name for name in found if name not in set(later)] == in_order(names)


async def test_a_restart_between_pages_changes_nothing(world) -> None:
    names = await put(world, 100)
    await world.node.seal_shard(0)
    found = []
    after = None
    while True:
        page = await world.node.list_files(
            ListQuestion(), after=after, limit=30, names_only=True, cost=ReadCost()
        )
        found += [info.name for info in page.files]
        if page.next is None:
            break
        after = page.next
        await world.restart()
    assert found == in_order(names)


@pytest.mark.parametrize("sealed", [False, True])
async def test_deleted_files_are_left_out_or_shown_as_such(world, sealed) -> None:
    names = await put(world, 60)
    if sealed:
        await seal_all(world.node)
    gone = names[::3]
    assert (await names_of(world.node))[:1]  # tombstones of the day are in memory now
    await world.node.delete_many(gone, allow_missing=False)
    for _ in range(2):
        assert await names_of(world.node) == in_order(sorted(set(names) - set(gone)))
        found = await pages(world.node, ListQuestion(show_deleted=True), 7)
        states = {info.name: info.state for page in found for info in page}
        assert list(states) == in_order(names)
        assert {name for name, state in states.items() if state is FileState.DELETED} == set(gone)
        assert all((info.deleted_ms is not None) == (info.name in gone) for page in found for info in page)
        await world.restart()


async def test_views_say_what_is_known(world) -> None:
    names = await put(world, 20, metadata={"k": "v"}, content_type="a/b")
    await seal_all(world.node)
    names += await put(world, 20, metadata={"k": "v"}, content_type="a/b")
    await world.node.delete_many(names[:1], allow_missing=False)
    found = await pages(world.node, ListQuestion(), 9, names_only=False)
    listed = [info for page in found for info in page]
    assert listed == [await world.node.stat(name) for name in in_order(names[1:])]
    short = [info for page in await pages(world.node, ListQuestion(), 9) for info in page]
    assert [(info.state, info.created_ms, info.sealed_ms) for info in short] == [
        (info.state, info.created_ms, info.sealed_ms) for info in listed
    ]


async def test_a_page_costs_the_same_however_many_files_there_are(world) -> None:
    costs = []
    for count in (2000, 6000):
        await put(world, count)
        await world.node.seal_shard(0)
        await seal_all(world.node)
        await world.restart()
        cost = ReadCost()
        page = await world.node.list_files(ListQuestion(), after=None, limit=100, names_only=True, cost=cost)
        assert len(page.files) == 100
        costs.append(cost.requests)
        again = ReadCost()
        await world.node.list_files(ListQuestion(), after=page.next, limit=100, names_only=True, cost=again)
        assert again.requests == 0  # the blocks that the first page read
    assert costs == [costs[0]] * 2
    assert costs[0] <= 3


async def test_a_question_that_few_names_answer_ends_a_page_early_and_goes_on(world, monkeypatch) -> None:
    monkeypatch.setattr(listing, "NAMES_LOOKED_AT_MAX", 50)
    names = await put(world, 400)
    await seal_all(world.node)
    wanted = {consistent_hash(names[7], 8)}
    question = ListQuestion(shards=frozenset({consistent_hash(names[7], world.settings.shard_bits)}))
    found = await pages(world.node, question, 30)
    assert len(found) >= 8
    bits = world.settings.shard_bits
    assert [info.name for page in found for info in page] == [
        name for name in in_order(names) if consistent_hash(name, bits) in question.shards
    ]
    assert wanted


async def test_what_cannot_be_asked_fails_the_page_and_hides_nothing(world, monkeypatch) -> None:
    names = await put(world, 50)
    await seal_all(world.node)
    await world.restart()

    async def refuse(*_args: Any, **_kwargs: Any) -> bytes:
        raise ObjectStoreUnavailableError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "get_range", refuse)
        with pytest.raises(UnavailableError):
            await names_of(world.node)
    assert await names_of(world.node) == in_order(names)


def test_names_are_kept_in_order_however_they_come():
    rng = random.Random(1)
    present: dict[str, str] = {}
    order = NameOrder([])
    for _ in range(300):
        name = f"{rng.randrange(500):03d}"
        if rng.random() < 0.7:
            if name not in present:
                present[name] = name
                order.add(name)
        else:
            present.pop(name, None)
        prefix, after = rng.choice(["", "1", "23"]), f"{rng.randrange(500):03d}"
        expected = sorted(name for name in present if name.startswith(prefix) and name > after)[:9]
        assert order.page(present, lambda _: True, prefix=prefix, after=after, limit=9) == expected


async def rounds_of(world: Any, prefixes: list[str]) -> list[list[str]]:
    """Put and seal 60 files at a time, and return the names of each time."""
    names: list[list[str]] = []
    for prefix in prefixes:
        world.clock.advance(60)
        names.append(await put(world, 60, prefix=prefix))
        await seal_all(world.node)
    world.clock.advance(60)
    return names


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Return the ids of the containers whose names are asked for."""
    found: list[str] = []
    ask = listing.Listing._run

    async def counted(self: Any, row: Any, *rest: Any) -> Any:
        found.append(row.container_id)
        return await ask(self, row, *rest)

    monkeypatch.setattr(listing.Listing, "_run", counted)
    return found


async def containers_of(world: Any, names: list[str]) -> set[str]:
    rows = await world.catalog.containers()
    return {row.container_id for row in rows if row.name_first <= max(names) and min(names) <= row.name_last}


def forget_names(world: Any) -> None:
    """Make the rows those of a version that did not keep the first and the last name."""
    rows = world.catalog._containers
    rows.update({key: replace(row, name_first="", name_last="") for key, row in rows.items()})


@pytest.mark.parametrize(("prefix", "names_kept"), [("", True), ("DES_", True), ("DES_", False)])
async def test_containers_behind_or_before_a_page_are_not_asked(world, asked, prefix, names_kept) -> None:
    names = await rounds_of(world, [""] * 5)
    names.append(await put(world, 5))
    expected = sorted(name for some in names for name in some)
    of_round = [await containers_of(world, some) for some in names]
    if not names_kept:
        forget_names(world)
    some = 60 // 2
    question = ListQuestion(prefix=prefix)
    page = await world.node.list_files(question, after=None, limit=some, names_only=True, cost=ReadCost())
    assert [info.name for info in page.files] == expected[:some]
    assert set(asked) == of_round[0]
    assert await names_of(world.node, question) == expected
    asked.clear()
    after = listing.ListPosition(parse_name(names[3][0]).day, max(names[3]))
    page = await world.node.list_files(question, after=after, limit=1_000, names_only=True, cost=ReadCost())
    assert [info.name for info in page.files] == sorted(names[4] + names[5])
    # The time of its last name does not say that the page begins behind it.
    assert set(asked) == of_round[4] | (set() if names_kept else of_round[3])


async def test_all_containers_that_a_page_reaches_are_asked_at_once(world, monkeypatch) -> None:
    """Not one after the other, where each has few names: that would be a wait for each."""
    names = await rounds_of(world, [""] * 5)
    reached = set.union(*[await containers_of(world, some) for some in names[:3]])
    together: list[int] = []
    gather = listing.asyncio.gather

    def counted(*loads: Any, **options: Any) -> Any:
        together.append(len(loads))
        return gather(*loads, **options)

    monkeypatch.setattr(listing.asyncio, "gather", counted)
    await world.node.list_files(ListQuestion(), after=None, limit=150, names_only=True, cost=ReadCost())
    assert together == [len(reached)]


async def test_containers_without_a_name_of_the_prefix_are_not_asked(world, asked) -> None:
    names = await rounds_of(world, ["AAA", "MMM", "ZZZ"])
    for prefix, some in zip(["AAA", "MM", "Z", "B", "ZZZZ"], [*names, [], []], strict=True):
        asked.clear()
        assert await names_of(world.node, ListQuestion(prefix=prefix), limit=1_000) == sorted(some)
        assert set(asked) == (await containers_of(world, some) if some else set())


async def test_rows_that_do_not_know_their_names_are_asked(world, asked) -> None:
    names = await rounds_of(world, [""] * 3)
    forget_names(world)
    page = await world.node.list_files(ListQuestion(), after=None, limit=1, names_only=True, cost=ReadCost())
    assert [info.name for info in page.files] == [min(names[0])]
    assert set(asked) == {row.container_id for row in await world.catalog.containers()}
    assert await names_of(world.node) == sorted(name for some in names for name in some)


@pytest.mark.parametrize("started_over", [False, True])
async def test_containers_are_asked_in_any_order_of_their_names(world, started_over) -> None:
    if started_over:  # the time in a name is counted modulo 2**32 ms
        world.clock.advance((1 << 32) / 1000 - (world.clock.now_ms() & 0xFFFFFFFF) / 1000 - 0.05)
    names: list[str] = []
    for turn in range(4):
        world.clock.advance(0.02)
        names += await put(world, 40, prefix=("DES", "ABC", "DES", "ZZ")[turn])
        if turn != 1:
            await seal_all(world.node)
    assert (min(int(name[-16:-8], 16) for name in names) < 1_000) is started_over
    for prefix in ("", "DES", "DES_", "ABC_", "ZZ_"):
        wanted = in_order([name for name in names if name.startswith(prefix)])
        assert await names_of(world.node, ListQuestion(prefix=prefix)) == wanted
