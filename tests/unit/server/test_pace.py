import pytest
from des_server.errors import StalledError
from des_server.pace import Pace


def test_who_is_slower_than_the_floor_for_longer_than_the_grace_is_told_so():
    pace = Pace(100, 10)
    for _ in range(10):
        pace.count(0, 1.0)
    with pytest.raises(StalledError, match="less than 100 bytes a second arrived for more than 10 s"):
        pace.count(99, 1.0)


def test_who_keeps_the_floor_may_go_on_for_ever():
    pace = Pace(100, 1)
    for _ in range(1000):
        pace.count(100, 1.0)


def test_nothing_is_saved_up_by_having_been_fast():
    pace = Pace(100, 10)
    pace.count(1 << 40, 0.1)
    with pytest.raises(StalledError):
        pace.count(0, 10.5)


def test_without_a_floor_any_pace_will_do():
    Pace(0, 1).count(0, 1e9)
