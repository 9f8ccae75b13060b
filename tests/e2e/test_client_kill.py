"""The client against a server that is killed under it: nothing is lost, nothing is stored twice."""

import os

import pytest
from des_client import AsyncDesClient, DesClient, RetryConfig

PATIENT = RetryConfig(attempts=1_000, backoff_max_s=0.5)
MIB = 1 << 20


def test_a_large_upload_goes_on_where_a_killed_server_stood(server, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(48 * MIB))
    seen = []

    def kill_once(progress):
        if progress.done_bytes > 24 * MIB and not any(seen):
            seen.append(True)
            server.kill()
            server.start()
        elif seen:
            seen.append(progress.done_bytes)

    with DesClient(server.address, retry=PATIENT, timeout_s=60) as des:
        assert "resumable_uploads" in des.server_info().features
        result = des.put(path, on_progress=kill_once)
        assert result.file.size_bytes == 48 * MIB
        assert des.get(result.file.name) == path.read_bytes()
    # It began again at what the server had synced, not at the first byte.
    after = [one for one in seen if one is not True]
    assert min(after) > MIB


def test_put_many_and_get_many_outlast_kill_9(server):
    contents = [b"%d" % number * 100 for number in range(20_000)]
    with DesClient(server.address, retry=PATIENT, timeout_s=60) as des:
        names = []
        for outcome in des.put_many(contents):
            names.append(outcome.unwrap().file.name)
            if outcome.index == 5_000:
                server.kill()
                server.start()
        assert len(set(names)) == len(contents)
        got = []
        for outcome in des.get_many(names):
            got.append(outcome.unwrap())
            if outcome.index == 5_000:
                server.kill()
                server.start()
        assert got == contents
        # A lost answer makes no second file.
        assert sum(1 for _ in des.iter_names()) == len(contents)


@pytest.mark.parametrize("channels", [1, 3])
async def test_the_asyncio_client_does_the_same(server, channels):
    contents = [b"%d" % number for number in range(3_000)]
    async with AsyncDesClient(server.address, channels=channels, retry=PATIENT, timeout_s=60) as des:
        names = [one.unwrap().file.name async for one in des.put_many(contents)]
        assert [one.unwrap() async for one in des.get_many(names, ordered=True)] == contents
        assert {name async for name in des.iter_names()} == set(names)
        outcomes = [one async for one in des.delete_many(names[:10])]
        assert [one.error for one in outcomes] == [None] * 10
