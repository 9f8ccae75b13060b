"""What is particular to objects in a directory: crashes, other processes, a disk that refuses."""

import asyncio
import errno
import fcntl
import json
import os
import stat
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from des.storage.local import LocalObjectStore
from des.storage.object_store import (
    NoSuchObjectError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectStoreFullError,
    ObjectStoreUnavailableError,
    UploadOverError,
)
from des.storage.open_files import OpenFile, OpenFiles
from des.testing.object_store_suite import KEY, BytesBody, keys, put

DAY_S = 24 * 3600


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalObjectStore]:
    store = LocalObjectStore(root)
    yield store
    await store.close()


def incoming(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".incoming").iterdir())


def refuse(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, number: int) -> None:
    def refusing(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(owner, name, refusing)


async def test_nothing_is_readable_by_others(store, root):
    await put(store, KEY)
    modes = {path.relative_to(root): stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert all(mode == (0o700 if (root / path).is_dir() else 0o600) for path, mode in modes.items()), modes


async def test_metadata_is_durable_before_the_object_appears(store, root, monkeypatch):
    """A crash just before the link leaves a sidecar, which the next writer of the key replaces."""
    refuse(monkeypatch, Path, "hardlink_to", errno.EIO)
    with pytest.raises(ObjectStoreUnavailableError):
        await store.create(KEY, BytesBody(b"one"), metadata={"try": "1"})
    monkeypatch.undo()
    assert json.loads((root / ".metadata/2026-11-23/0a/.one.des.json").read_text()) == {
        "metadata": {"try": "1"}
    }
    assert await keys(store) == []
    await store.create(KEY, BytesBody(b"two"), metadata={"try": "2"})
    assert (await store.head(KEY)).metadata == {"try": "2"}


async def test_bytes_and_names_are_synced_in_order(store, root, monkeypatch):
    """Bytes before the link; the link's folder, and all above it, before `create` returns."""
    synced: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        appeared = "after" if (root / KEY).exists() else "before"
        synced.append(f"{appeared} {path.relative_to(root)}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    await put(store, KEY)
    assert [name for name in synced if ".incoming" in name] == [
        name for name in synced if "before .inc" in name
    ]
    assert "before .metadata/2026-11-23/0a" in synced
    assert synced[-3:] == ["after 2026-11-23/0a", "after 2026-11-23", "after ."]


async def test_files_of_dead_uploads_go_after_a_day(store, root):
    live = await store.begin_upload("live", metadata={})
    old, young = root / ".incoming/object-old", root / ".incoming/object-young"
    young.write_bytes(b"x")
    old.write_bytes(b"x")
    for path in (root / ".incoming").iterdir():
        if path != young:
            os.utime(path, (path.stat().st_mtime - DAY_S - 60,) * 2)
    LocalObjectStore(root)
    assert not old.exists()
    assert young.exists()
    await live.write(b"still here")
    assert (await live.finish()).size == 10


async def test_no_file_is_left_behind(store, root):
    await put(store, KEY)
    with pytest.raises(ObjectExistsError):
        await put(store, KEY)
    upload = await store.begin_upload("b", metadata={})
    await upload.write(b"x")
    await upload.abort()
    assert incoming(root) == []


async def test_a_root_that_went_away_is_not_an_empty_store(store, root):
    """As when the disk is not mounted: absent objects are unknown, not gone."""
    await put(store, KEY)
    root.rename(root.with_name("elsewhere"))
    for _ in range(2):
        with pytest.raises(ObjectStoreUnavailableError):
            await store.head(KEY)
        with pytest.raises(ObjectStoreUnavailableError):
            await store.get_range(KEY, 0, 1)
        with pytest.raises(ObjectStoreUnavailableError):
            await keys(store)
        with pytest.raises(ObjectStoreUnavailableError):
            await store.delete(KEY)
        root.mkdir(exist_ok=True)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, ObjectStoreUnavailableError),
        (errno.EACCES, ObjectStoreUnavailableError),
        (errno.ENOSPC, ObjectStoreFullError),
        (errno.EDQUOT, ObjectStoreFullError),
    ],
)
async def test_a_disk_that_refuses_a_write_leaves_no_object(store, root, monkeypatch, number, kind):
    refuse(monkeypatch, os, "write", number)
    with pytest.raises(kind) as caught:
        await put(store, KEY)
    assert caught.value.retryable
    upload = await store.begin_upload(KEY, metadata={})
    with pytest.raises(kind):
        await upload.write(b"x")
    with pytest.raises(UploadOverError):
        await upload.finish()
    assert await keys(store) == []
    assert incoming(root) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
async def test_a_disk_that_refuses_a_read_is_unavailable(store, monkeypatch, number):
    await put(store, KEY)
    refuse(monkeypatch, os, "pread", number)
    refuse(monkeypatch, os, "preadv", number)
    with pytest.raises(ObjectStoreUnavailableError):
        await store.get_range(KEY, 0, 1)
    refuse(monkeypatch, Path, "stat", number)
    with pytest.raises(ObjectStoreUnavailableError):
        await store.head(KEY)


async def test_a_failed_sync_is_an_unknown_outcome(store, monkeypatch):
    refuse(monkeypatch, os, "fsync", errno.EIO)
    with pytest.raises(ObjectStoreUnavailableError):
        await put(store, KEY)


async def test_damaged_metadata_is_reported_and_the_bytes_still_read(store, root):
    await put(store, KEY, b"bytes")
    (root / ".metadata/2026-11-23/0a/.one.des.json").write_bytes(b'{"metadata": 7')
    with pytest.raises(ObjectDamagedError):
        await store.head(KEY)
    assert await store.get_range(KEY, 0, 5) == b"bytes"


async def test_an_object_without_metadata_file_has_none(store, root):
    """As after a copy of the objects alone."""
    (root / "plain").write_bytes(b"bytes")
    info = await store.head("plain")
    assert (info.size, info.metadata) == (5, {})


async def test_an_object_made_anew_has_another_etag(store):
    """Even when the file system gives it the same inode within one tick of its clock."""
    etags = set()
    for _ in range(20):
        etags.add((await put(store, KEY, b"same size")).etag)
        await store.delete(KEY)
    assert len(etags) == 20


async def test_two_stores_over_one_root_agree(store, root):
    other = LocalObjectStore(root)
    await put(store, KEY, b"one")
    assert await other.get_range(KEY, 0, 3) == b"one"
    await store.delete(KEY)
    with pytest.raises(NoSuchObjectError):
        await other.get_range(KEY, 0, 3)
    await put(other, KEY, b"two")
    assert await store.get_range(KEY, 0, 3) == b"two"
    await other.close()


async def test_a_warm_read_asks_no_thread(store, monkeypatch):
    await put(store, KEY)
    first = await store.get_range(KEY, 0, 4096)
    monkeypatch.setattr(store, "in_thread", None)
    assert await store.get_range(KEY, 0, 4096) == first


async def test_a_file_system_without_cached_reads_still_reads(store, monkeypatch):
    await put(store, KEY, b"bytes")
    refuse(monkeypatch, os, "preadv", errno.EOPNOTSUPP)
    for _ in range(2):
        assert await store.get_range(KEY, 1, 4) == b"yte"


async def test_writers_of_other_keys_wait_for_a_held_folder_only(store, root):
    await put(store, "held/a")
    with (root / ".metadata/held").joinpath(".a.json").open("rb"):
        descriptor = os.open(root / ".metadata/held", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            waiting = asyncio.create_task(put(store, "held/b"))
            await put(store, "free/b")
            assert not waiting.done()
        finally:
            os.close(descriptor)
        await waiting


async def test_a_long_upload_is_not_held_in_memory(store):
    chunk = bytes(1 << 20)
    upload = await store.begin_upload(KEY, metadata={})
    tracemalloc.start()
    try:
        for _ in range(48):
            await upload.write(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (await upload.finish()).size == 48 << 20
    assert peak < 4 << 20


def test_a_file_stays_open_under_a_read_and_closes_after_it(tmp_path):
    paths = [tmp_path / str(i) for i in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode() * 10)
    files = OpenFiles(2)
    held = files.open("0", paths[0])
    descriptor = held.descriptor
    for path in paths:
        files.open(path.name, path)
    assert "0" not in files
    assert held.read(0, 10) == b"0" * 10
    del held
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_replaced_file_is_not_the_one_kept_open(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    files = OpenFiles(2)
    files.open("a", path)
    assert files.get("a", path.stat()) is not None
    path.unlink()
    path.write_bytes(b"two")
    assert files.get("a", path.stat()) is None


def test_many_threads_read_while_files_are_dropped(tmp_path):
    paths = [tmp_path / str(i) for i in range(8)]
    for path in paths:
        path.write_bytes(path.name.encode() * 4096)
    files = OpenFiles(2)
    wrong: list[object] = []

    def reading(seed: int) -> None:
        for turn in range(300):
            path = paths[(seed + turn * 3) % len(paths)]
            file = files.get(path.name, path.stat()) or files.open(path.name, path)
            if file.read(0, 4096) != path.name.encode() * 4096:
                wrong.append(path)

    threads = [threading.Thread(target=reading, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files.close()
    assert wrong == []


def test_a_short_read_goes_on(tmp_path, monkeypatch):
    """A signal or a network file system may cut a read short of the end."""
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 3), offset))
    assert OpenFile(path).read(2, 100) == b"23456789"


def test_the_root_must_be_usable(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ObjectStoreUnavailableError):
        LocalObjectStore(tmp_path / "file" / "objects")
