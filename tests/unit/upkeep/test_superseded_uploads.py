"""Which containers a rebuild leaves out, against the plain rule: all names are in newer ones of the day."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from des.testing.catalog_rows import container_row
from des.upkeep.rebuild_catalog import RebuildReport, _newest


def plain(found: list[tuple[str, set[int]]]) -> set[int]:
    """Return the numbers of those that are live; a later number is a newer container."""
    return {
        number
        for number, (day, names) in enumerate(found)
        if not names or names - set().union(*(other for its, other in found[number + 1 :] if its == day))
    }


@given(
    st.lists(
        st.tuples(st.sampled_from(["20260228", "20260301"]), st.sets(st.integers(0, 5), max_size=4)),
        max_size=7,
    )
)
def test_a_container_is_left_out_when_newer_ones_of_its_day_have_all_its_names(found):
    rows = [replace(container_row(number), day=day) for number, (day, _) in enumerate(found)]
    hashes = {
        row.container_id: np.array(sorted(names), dtype=np.uint64)
        for row, (_, names) in zip(rows, found, strict=True)
    }
    report = RebuildReport()
    live = _newest(rows[::-1], hashes, report)
    expected = plain(found)
    assert live == [row for number, row in enumerate(rows) if number in expected]
    assert set(report.superseded) == {row.key for number, row in enumerate(rows) if number not in expected}
