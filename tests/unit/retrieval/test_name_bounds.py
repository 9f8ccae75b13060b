"""Which containers a page of a listing may reach, told from their rows alone."""

import random
from typing import Any

import pytest

from des.db.catalog import ContainerRow
from des.retrieval.name_bounds import Candidate, candidates, count_together
from des.testing.catalog_rows import DAY, container_row


def row_of(first: str, last: str, **changes: Any) -> ContainerRow:
    return container_row(name_first=first, name_last=last, **changes)


def ids_of(rows: list[ContainerRow], **question: str) -> list[str]:
    asked = {"prefix": "", "after": "", **question}
    return [one.row.name_first for one in candidates(rows, day=DAY, wrap_bits=32, **asked)]


@pytest.mark.parametrize(
    ("prefix", "after", "found"),
    [
        ("", "", ["A_1", "B_1", "B_5"]),
        ("", "A_8", ["A_1", "B_1", "B_5"]),
        ("", "A_9", ["B_1", "B_5"]),  # its last name is that of the page before
        ("", "B_7", ["B_5"]),
        ("", "B_9", []),
        ("A", "", ["A_1"]),
        ("B", "", ["B_1", "B_5"]),
        ("C", "", []),
        ("AB", "", []),
    ],
)
def test_a_container_is_asked_when_its_names_can_be_on_the_page(prefix, after, found):
    rows = [row_of("B_5", "B_9"), row_of("A_1", "A_9"), row_of("B_1", "B_7")]
    assert ids_of(rows, prefix=prefix, after=after) == found


def test_one_whose_names_are_not_known_is_always_asked():
    rows = [row_of("", ""), row_of("A_1", "A_9")]
    assert ids_of(rows, after="B_9") == [""]
    assert ids_of(rows, prefix="C") == [""]


def test_the_times_of_names_bound_them_too_where_the_prefix_is_whole():
    times = {"name_ms_first": 0x1000, "name_ms_last": 0x2000}
    rows = [row_of("", "", **times), row_of(f"DES_{DAY}_(00001FFF", f"ZZZ_{DAY}_(00000000", **times)]
    known, unknown = candidates(rows, prefix="DES_", day=DAY, after="", wrap_bits=32)[::-1]
    assert (unknown.low, unknown.high) == (f"DES_{DAY}_(00001000", f"DES_{DAY}_(00002000FFFF~")
    assert (known.low, known.high) == (f"DES_{DAY}_(00001FFF", f"DES_{DAY}_(00002000FFFF~")


def files_of(first: str, last: str, files: int) -> Candidate:
    row = row_of(first, last)
    geometry = row.geometry
    return Candidate(
        container_row(geometry=type(geometry)(geometry.size, 16, 1, 17, 0, 17, 1, files)), first, last
    )


@pytest.mark.parametrize(
    ("limit", "together"), [(1, 2), (10, 2), (11, 2), (30, 2), (31, 3), (40, 3), (41, 4)]
)
def test_what_has_enough_names_before_a_container_keeps_a_page_from_it(limit, together):
    found = [files_of("a", "c", 10), files_of("b", "d", 20), files_of("e", "f", 10), files_of("g", "h", 1)]
    assert count_together(found, limit) == together


def test_a_page_reaches_no_further_than_is_said_while_nothing_is_left_out():
    rng = random.Random(5)
    for _ in range(200):
        kept = [
            sorted({f"{rng.randrange(low, low + 40):03d}" for _ in range(rng.randrange(1, 9))})
            for low in (rng.randrange(200) for _ in range(rng.randrange(1, 12)))
        ]
        rows = sorted((files_of(some[0], some[-1], len(some)) for some in kept), key=lambda one: one.low)
        limit = rng.randrange(1, 30)
        page = sorted(name for some in kept for name in some)[:limit]
        reached = sum(one.low <= page[-1] for one in rows)
        assert count_together(rows, limit) >= reached
