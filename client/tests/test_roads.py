"""What becomes of a connection by how its calls end."""

import pytest
from des_client.errors import DeadlineExceeded, NotFound, Unavailable
from des_client.road import Road
from des_client.roads import Roads


@pytest.fixture
def roads():
    """Two connections, which lead to the nodes a and b; b owns every shard."""
    made = Roads(2, follow=True, clock=lambda: 0.0)
    for at, node in enumerate("ab"):
        road = Road("x")
        road.at = at
        made.answered(road, (("des-node", node), ("des-owner", "b;0;0")), None)
    return made


def picked(roads, times=6):
    """Which connections calls take that follow, and calls that take turns."""
    return (
        {roads.choose(Road("x")) for _ in range(times)},
        {roads.choose(Road("")) for _ in range(times)},
    )


def failing(roads, error, trailers=()):
    road = Road("x")
    roads.choose(road)
    roads.failed(road, error, trailers)
    return road


def test_calls_go_to_the_owner_or_in_turn(roads):
    assert picked(roads) == ({1}, {0, 1})


@pytest.mark.parametrize("reason", ["", "SHUTTING_DOWN"])
def test_a_server_that_is_not_there_is_left_out(roads, reason):
    failing(roads, Unavailable("gone", reason=reason))
    assert picked(roads) == ({0}, {0})


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("moving", reason="NOT_SHARD_OWNER"),
        Unavailable("busy", reason="SERVER_BUSY"),
        NotFound("no such file", reason="FILE_NOT_FOUND"),
        DeadlineExceeded("the server said so", reason="DEADLINE_EXCEEDED"),
    ],
)
def test_what_a_server_says_of_the_question_is_no_fault_of_its_connection(roads, error):
    failing(roads, error)
    assert picked(roads) == ({1}, {0, 1})


def test_a_server_that_said_nothing_in_time_has_its_turn_and_is_not_followed(roads):
    failing(roads, DeadlineExceeded("too slow"))
    assert picked(roads) == ({0, 1}, {0, 1})


def test_a_server_that_answers_again_is_there_again(roads):
    failing(roads, Unavailable("gone"))
    back = Road("")
    back.at = 1
    roads.worked(back)
    assert picked(roads)[1] == {0, 1}


def test_only_connections_of_which_nobody_knows_where_they_lead_ask(roads):
    road = Road("x")
    roads.choose(road)
    assert roads.headers(road) == ()
    failing(roads, DeadlineExceeded("too slow"))
    road.at = 1
    assert roads.headers(road) == (("des-follow", "1"),)


def test_without_following_nothing_is_asked_or_learned():
    roads = Roads(2, follow=False, clock=lambda: 0.0)
    road = Road("x")
    roads.choose(road)
    assert roads.headers(road) == ()
    roads.answered(road, (("des-node", "a"), ("des-owner", "a;0;0")), None)
    assert picked(roads) == ({0, 1}, {0, 1})
