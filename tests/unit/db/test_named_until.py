"""What an estate says of names, where versions that note no such thing take turns with those that do."""

import pytest

from des.db.catalog import ShardLock
from des.db.rules import UNBOUNDED_AHEAD_MS, known_named_until_ms, named_until_ms


def lock(expires_ms):
    return ShardLock(1, "holder", 1, 0, 0, expires_ms, "node")


@pytest.mark.parametrize(
    ("expires_ms", "said_ms", "until_ms"),
    [
        (900, 0, 1000),
        (900, 950, 1000),
        (900, 1500, 1500),  # under a lock from before the database's clock was set back
        (1200, 0, 1200),  # taken by force before it expired
        (900, None, 1000 + UNBOUNDED_AHEAD_MS),
        (1200, None, 1200 + UNBOUNDED_AHEAD_MS),
    ],
)
def test_names_end_at_the_take_over_unless_the_node_said_otherwise(expires_ms, said_ms, until_ms):
    assert named_until_ms(lock(expires_ms), said_ms=said_ms, now_ms=1000) == until_ms


@pytest.mark.parametrize(
    ("noted_ms", "until_ms"),
    [
        (1000, 1000),
        (1500, 1500),
        (None, 1000 + UNBOUNDED_AHEAD_MS),  # taken by an earlier version
        (999, 1000 + UNBOUNDED_AHEAD_MS),  # taken once more by one, which left what it found
    ],
)
def test_what_an_earlier_version_left_is_not_believed(noted_ms, until_ms):
    assert known_named_until_ms(noted_ms, taken_ms=1000) == until_ms
