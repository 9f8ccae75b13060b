"""The checksum of two runs follows from those of each."""

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from des.format.crc_combine import combine


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_two_runs_combine(first, second):
    found = combine(google_crc32c.value(first), google_crc32c.value(second), len(second))
    assert found == google_crc32c.value(first + second)


def test_zeros_of_any_length_combine_as_they_are_counted():
    crc32c = whole = google_crc32c.value(b"start")
    for size in (1, 2, 3, 255, 256, 65_535, 1 << 20):
        zeros = google_crc32c.value(bytes(size))
        crc32c = combine(crc32c, zeros, size)
        whole = google_crc32c.extend(whole, bytes(size))
        assert crc32c == whole
    half = combine(google_crc32c.value(bytes(1 << 20)), google_crc32c.value(bytes(1 << 20)), 1 << 20)
    assert half == google_crc32c.value(bytes(1 << 21))
