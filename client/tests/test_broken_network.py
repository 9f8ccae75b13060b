"""Connections that are really reset, by a proxy between client and server."""

import pytest
from cutting_proxy import CuttingProxy
from des_client import RetryConfig, UploadInterrupted

MIB = 1 << 20
DATA = bytes(range(256)) * (6 * 4096) + b"tail"  # 6 MiB and a bit
STUBBORN = RetryConfig(attempts=30, backoff_initial_s=0.05, backoff_max_s=0.1)


@pytest.fixture
def through(server, make_client):
    made = []

    def make(*cuts):
        proxy = CuttingProxy(server.port, cuts)
        made.append(proxy)
        return proxy, make_client(proxy.target, retry=STUBBORN)

    yield make
    for proxy in made:
        proxy.close()


def test_an_upload_survives_resets_and_makes_one_file(through, double):
    proxy, des = through((100, None), (MIB, None), (5 * MIB, None))
    result = des.put(DATA)
    assert proxy.connections >= 4
    assert [one.content for one in double.files.values()] == [DATA]
    assert not result.already_existed


def test_a_reply_lost_in_a_reset_makes_no_second_file(through, double):
    # The server's greeting passes; what follows the upload does not.
    proxy, des = through((None, 200))
    result = des.put(b"hello" * 1000)
    assert proxy.connections >= 2
    assert len(double.files) == 1
    assert double.files[result.file.name].content == b"hello" * 1000


def test_a_download_survives_resets(through, double):
    double.chunk_bytes = 200_000
    name = double.add(DATA)
    proxy, des = through((None, 30), (None, MIB), (None, 3 * MIB), (None, MIB))
    assert des.get(name) == DATA
    assert proxy.connections >= 5
    offsets = [one.range.offset for one in double.requests]
    assert offsets == sorted(offsets)
    assert offsets[-1] > 0


def test_a_download_to_a_path_survives_resets(through, double, tmp_path):
    name = double.add(DATA)
    _, des = through((None, MIB + 5), (None, 2 * MIB))
    des.get_to(name, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA


def test_a_long_source_that_comes_once_says_why_it_cannot_go_on(through, double):
    _, des = through((12 * MIB, None))
    with pytest.raises(UploadInterrupted, match="not seekable"):
        des.put(bytes(MIB) for _ in range(20))
    assert not double.files


def test_calls_survive_resets(through, double):
    _, des = through((100, None), (None, 50), (None, 100))
    assert len(des.assign_names(2)) == 2
    assert len(double.names_by_request) == 1
