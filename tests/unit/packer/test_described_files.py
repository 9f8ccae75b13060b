"""What a container's row says of its files together."""

from random import Random

import pytest

from des.ingest.values import OpenFile
from des.naming import InvalidNameError, created_ms_of, encode_name
from des.naming.name import DAY_MS, day_start_ms
from des.packer.described_files import DescribedFiles

DAY = "20260228"
START = day_start_ms(DAY)


def opened(name: str, size: int) -> OpenFile:
    return OpenFile(name, int(DAY), 0, 1, 0, size, 0, b"", 1, 64)


@pytest.mark.parametrize("wrap_bits", [27, 30, 32])
def test_times_are_those_of_each_name(wrap_bits):
    rng = Random(wrap_bits)
    times = [START, START + DAY_MS - 1, *(START + rng.randrange(DAY_MS) for _ in range(200))]
    rng.shuffle(times)
    names = [
        encode_name("DES", DAY, ms, number % 256, number % 256, wrap_bits) for number, ms in enumerate(times)
    ]
    found = DescribedFiles.of([opened(name, 3) for name in names], wrap_bits)
    each = [created_ms_of(name, wrap_bits) for name in names]
    assert (found.ms_first, found.ms_last) == (min(each), max(each)) == (START, START + DAY_MS - 1)
    assert (found.name_first, found.name_last, found.data_bytes) == (min(names), max(names), 3 * len(names))


def test_a_time_that_the_day_does_not_have_is_refused():
    late = encode_name("DES", DAY, START + DAY_MS + 5, 0, 0, 32)
    with pytest.raises(InvalidNameError):
        DescribedFiles.of([opened(encode_name("DES", DAY, START, 0, 0, 32), 1), opened(late, 1)], 32)
