"""Who asks while a load is under way gets what it gives; who asks once it has ended does not."""

import asyncio

from des.core.single_flight import SingleFlight


async def test_all_who_ask_meanwhile_share_one_load():
    flights = SingleFlight()
    loads = []
    go_on = asyncio.Event()

    async def load():
        loads.append(len(loads))
        await go_on.wait()
        return loads[-1]

    asking = [asyncio.create_task(flights.run("key", load)) for _ in range(3)]
    other = asyncio.create_task(flights.run("other", load))
    await asyncio.sleep(0)
    go_on.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    await other
    assert len(loads) == 2


async def test_a_load_that_has_ended_is_not_joined_before_its_callbacks_ran():
    flights = SingleFlight()
    late = []

    async def load():
        # Runs after this load has ended and before anybody is told so.
        late.append(asyncio.create_task(flights.run("key", load_again)))
        return "first"

    async def load_again():
        return "second"

    assert await flights.run("key", load) == "first"
    assert await late[0] == "second"
    assert await flights.run("key", load_again) == "second"


async def test_an_error_is_everybodys_and_the_next_load_is_a_new_one():
    flights = SingleFlight()

    async def fail():
        raise ValueError("no")

    async def load():
        return 1

    asking = [asyncio.create_task(flights.run("key", fail)) for _ in range(2)]
    assert [str(error) for error in await asyncio.gather(*asking, return_exceptions=True)] == ["no", "no"]
    assert await flights.run("key", load) == 1
