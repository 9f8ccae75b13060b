"""The digest of a stream is that of its bytes, however they came and whenever it is asked for."""

import hashlib
import threading

import pytest

from des.core.background_digest import BackgroundDigest


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_the_digest_is_that_of_all_bytes_taken(count):
    digest, expected = BackgroundDigest(), hashlib.sha256()
    for number in range(count):
        data = bytes([number]) * (1 << 20)
        digest.update([data[:1], data[1:]])
        expected.update(data)
        assert digest.digest() == expected.digest()
    digest.close()
    assert digest.digest() == expected.digest()


def test_one_batch_starts_no_thread():
    before = threading.active_count()
    digest = BackgroundDigest()
    digest.update([b"all of it"])
    assert digest.digest() == hashlib.sha256(b"all of it").digest()
    assert threading.active_count() == before


def test_closing_ends_the_thread():
    digest = BackgroundDigest()
    for _ in range(4):
        digest.update([bytes(1 << 20)])
    assert any(thread.name.startswith("des-digest") for thread in threading.enumerate())
    digest.close()
    digest.close()
    assert not any(thread.name.startswith("des-digest") for thread in threading.enumerate())
