import asyncio

import pytest
from des_server.credits import ByteCredits, Loan, SharedCredits
from des_server.errors import ServerBusyError
from des_server.security.quota import QuotaExceededError


def lending(total=10, wait_s=5.0):
    return ByteCredits(total, wait_s=wait_s)


async def borrowing(credits_, size):
    task = asyncio.ensure_future(credits_.borrow(size))
    await asyncio.sleep(0)
    return task


async def test_what_fits_is_lent_at_once():
    bank = lending()
    assert await bank.borrow(4) == 4
    assert await bank.borrow(6) == 6
    assert bank.lent == bank.lent_max == 10
    bank.give_back(4)
    assert bank.lent == 6


async def test_more_than_there_is_takes_everything_there_is():
    bank = lending()
    assert await bank.borrow(99) == 10


async def test_first_come_first_served():
    bank = lending()
    await bank.borrow(8)
    large = await borrowing(bank, 5)
    small = await borrowing(bank, 1)
    bank.give_back(1)
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    bank.give_back(2)
    assert await large == 5
    bank.give_back(1)
    assert await small == 1
    assert bank.waiting == 0


async def test_who_waits_too_long_is_sent_away_and_lets_the_next_one_in():
    bank = lending(wait_s=0.05)
    await bank.borrow(8)
    large = await borrowing(bank, 5)
    await asyncio.sleep(0.03)
    small = await borrowing(bank, 1)
    with pytest.raises(ServerBusyError) as caught:
        await large
    assert caught.value.retry_after_s == 1.0
    assert await small == 1
    assert (bank.lent, bank.waiting) == (9, 0)


async def test_a_full_waiting_room_sends_away_at_once():
    bank = lending()
    await bank.borrow(10)
    await borrowing(bank, 6)
    with pytest.raises(ServerBusyError):
        await bank.borrow(5)
    assert bank.waiting == 6


@pytest.mark.parametrize("admitted_first", [False, True])
async def test_whoever_leaves_the_queue_leaves_nothing_behind(admitted_first):
    bank = lending()
    await bank.borrow(10)
    leaving = await borrowing(bank, 4)
    behind = await borrowing(bank, 4)
    if admitted_first:
        bank.give_back(4)
    leaving.cancel()
    if not admitted_first:
        bank.give_back(4)
    await asyncio.gather(leaving, return_exceptions=True)
    assert await behind == 4
    assert (bank.lent, bank.waiting) == (10, 0)


async def test_a_loan_grows_to_the_largest_message_and_is_given_back_once():
    bank = lending()
    loan = Loan(bank)
    for size in (3, 2, 5, 1):
        await loan.grow_to(size)
    assert bank.lent == loan.size == 5
    loan.give_back()
    loan.give_back()
    assert bank.lent == 0


class Bank:
    """Credits with shares of 6 of 10 bytes; `who` is whoever asks next."""

    def __init__(self, wait_s=5.0):
        self.who = "a"
        self.credits = SharedCredits(10, each=6, wait_s=wait_s, who=lambda: self.who)

    async def borrow(self, who, size):
        self.who = who
        return await self.credits.borrow(size)

    def give_back(self, who, size):
        self.who = who
        self.credits.give_back(size)


async def test_nobody_gets_more_than_a_share_and_others_get_the_rest():
    bank = Bank(wait_s=0.05)
    assert await bank.borrow("a", 99) == 6
    with pytest.raises(QuotaExceededError, match="6 of 6 upload bytes of one principal") as caught:
        await bank.borrow("a", 1)
    assert caught.value.details["quota"] == "principal_bytes_in_flight"
    assert caught.value.retry_after_s == 1.0
    assert await bank.borrow("b", 4) == 4
    assert bank.credits.lent == 10


async def test_who_waits_for_a_share_holds_nothing_of_what_others_may_have():
    bank = Bank()
    assert await bank.borrow("a", 6) == 6
    waiting = asyncio.ensure_future(bank.borrow("a", 3))
    await asyncio.sleep(0)
    assert await bank.borrow("b", 4) == 4
    assert not waiting.done()
    bank.give_back("a", 6)
    assert await waiting == 3
    bank.give_back("a", 3)
    bank.give_back("b", 4)
    assert bank.credits.lent == 0
    assert not bank.credits._shares


async def test_a_full_house_takes_nothing_of_the_share_of_who_is_sent_away():
    bank = Bank(wait_s=0.05)
    assert await bank.borrow("a", 6) == 6
    assert await bank.borrow("b", 4) == 4
    with pytest.raises(ServerBusyError):
        await bank.borrow("c", 1)
    bank.give_back("a", 6)
    assert await bank.borrow("c", 6) == 6
    assert bank.credits.lent == 10
