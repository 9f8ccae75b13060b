"""Rot and slips: found, or without effect; other bytes are never shown."""

import pytest

from des.testing.log_mutilations import examine, flips, slips, small_log


@pytest.mark.parametrize("hurts", [flips, slips])
async def test_every_hurt_to_a_closed_log_is_found_or_harmless(hurts):
    segments, files = await small_log()
    assert len(segments) > 3
    found = [await examine(hurt, files) for hurt in hurts(segments)]
    assert len(found) > 100
    assert sum(found) > 0.5 * len(found)
