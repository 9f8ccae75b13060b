"""Resumable uploads: what was answered as kept is kept, over restarts and power cuts."""

import errno
import os
from typing import Any

import google_crc32c
import pytest

from des.assignment.assigner import RequestIdConflictError
from des.config import load_settings
from des.errors import DesError, ExhaustedError
from des.files import FileInfo, FileSpec
from des.node import upload_folder
from des.node.resumable import ConcurrentUploadError, UploadNotFoundError
from des.node.upload_disk import UploadStorageError
from des.node.upload_writer import UploadOffsetError
from des.node.write_rules import (
    FileTooLargeError,
    NameConflictError,
    UploadChecksumMismatchError,
    UploadSizeMismatchError,
)
from des.testing.simulated_disk import Fault

MIB = 1 << 20


async def send(world: Any, upload_id: str, data: bytes, *, chunk: int = 300_000) -> int:
    """Write data behind what is kept; return how much is kept then."""
    writer = await world.node.uploads.resume(upload_id)
    try:
        for start in range(0, len(data), chunk):
            await writer.write(writer.size, data[start : start + chunk])
        return writer.size
    finally:
        writer.close()


async def finish(world: Any, upload_id: str, *, crc32c: int | None = None, sha256: bytes | None = None):
    writer = await world.node.uploads.resume(upload_id)
    try:
        return await writer.finish(crc32c, sha256)
    finally:
        writer.close()


async def whole(world: Any, name: str) -> bytes:
    return await (await world.node.open_file(name)).read_whole()


@pytest.mark.parametrize("size", [0, 10, MIB, 3 * MIB + 17])
async def test_an_upload_goes_on_after_restarts_and_is_a_file_like_any_other(world, size) -> None:
    data = os.urandom(size)
    spec = FileSpec(size=size, content_type="a/b", metadata={"k": "v"})
    upload_id, expires_ms = await world.node.uploads.start(spec)
    assert expires_ms > world.clock.now_ms()
    half = size // 2
    assert await send(world, upload_id, data[:half]) == half
    await world.restart()
    assert await world.node.uploads.status(upload_id) == half
    assert await send(world, upload_id, data[half:]) == size
    result = await finish(world, upload_id, crc32c=google_crc32c.value(data))
    assert await whole(world, result.file.name) == data
    assert dict(result.file.metadata) == {"k": "v"}
    for _ in range(2):
        found = await world.node.uploads.status(upload_id)
        assert isinstance(found, FileInfo)
        assert (found.name, found.crc32c) == (result.file.name, google_crc32c.value(data))
        writer = await world.node.uploads.resume(upload_id)
        assert writer.finished.name == result.file.name
        writer.close()
        await world.restart()
    assert [name for name in world.disk.list("uploads") if name.endswith(".part")] == []


async def test_what_was_answered_as_kept_survives_power_cuts(world) -> None:
    data = os.urandom(2 * MIB)
    upload_id, _ = await world.node.uploads.start(FileSpec())
    kept = 0
    for step in range(1, 9):
        kept = await send(world, upload_id, data[kept : step * len(data) // 8], chunk=70_000)
        world.disk.crash()
        world.disk.restart()
        await world.start()
        assert await world.node.uploads.status(upload_id) == kept
    result = await finish(world, upload_id)
    assert await whole(world, result.file.name) == data


async def test_a_torn_block_is_cut_off_and_written_again(world) -> None:
    data = os.urandom(500_000)
    upload_id, _ = await world.node.uploads.start(FileSpec())
    await send(world, upload_id, data[:300_000])
    await world.node.close()
    [part] = [name for name in world.disk.list("uploads") if name.endswith(".part")]
    path = f"uploads/{part}"
    world.disk.overwrite(path, world.disk.content(path) + b"\x00\x10\x00\x00torn")
    await world.start()
    assert await world.node.uploads.status(upload_id) == 300_000
    await send(world, upload_id, data[300_000:])
    assert await whole(world, (await finish(world, upload_id)).file.name) == data


async def test_kept_bytes_that_rot_are_found_out(world) -> None:
    upload_id, _ = await world.node.uploads.start(FileSpec())
    await send(world, upload_id, os.urandom(400_000), chunk=100_000)
    [part] = [name for name in world.disk.list("uploads") if name.endswith(".part")]
    content = bytearray(world.disk.content(f"uploads/{part}"))
    content[250_000] ^= 1
    world.disk.overwrite(f"uploads/{part}", bytes(content))
    with pytest.raises(upload_folder.UploadDamagedError):
        await finish(world, upload_id)


async def test_only_one_writes_at_a_time_and_only_where_it_goes_on(world) -> None:
    upload_id, _ = await world.node.uploads.start(FileSpec(size=10))
    writer = await world.node.uploads.resume(upload_id)
    await writer.write(0, b"0123")
    for call in (world.node.uploads.resume, world.node.uploads.cancel):
        with pytest.raises(ConcurrentUploadError):
            await call(upload_id)
    assert await world.node.uploads.status(upload_id) == 4
    for offset in (0, 3, 5):
        with pytest.raises(UploadOffsetError) as error:
            await writer.write(offset, b"x")
        assert error.value.details["expected_offset"] == "4"
    with pytest.raises(UploadSizeMismatchError):
        await writer.write(4, b"4567890")
    with pytest.raises(UploadSizeMismatchError):
        await writer.finish(None, None)
    await writer.write(4, b"456789")
    with pytest.raises(UploadChecksumMismatchError):
        await writer.finish(1, None)
    result = await writer.finish(google_crc32c.value(b"0123456789"), None)
    writer.close()
    assert await whole(world, result.file.name) == b"0123456789"


async def test_a_cancelled_or_unknown_upload_is_not_found(world) -> None:
    upload_id, _ = await world.node.uploads.start(FileSpec())
    await send(world, upload_id, b"abc")
    await world.node.uploads.cancel(upload_id)
    for unknown in (upload_id, "", "x", "~", upload_id[:-1]):
        for call in (world.node.uploads.status, world.node.uploads.cancel, world.node.uploads.resume):
            with pytest.raises(UploadNotFoundError):
                await call(unknown)
    assert world.disk.list("uploads") == []


async def test_an_upload_is_given_up_after_its_time(world) -> None:
    upload_id, _ = await world.node.uploads.start(FileSpec())
    world.clock.advance(world.settings.limits.upload_ttl_s + 1)
    with pytest.raises(UploadNotFoundError):
        await world.node.uploads.status(upload_id)
    await world.node.uploads.step()
    assert world.disk.list("uploads") == []


async def test_uploads_that_the_disk_does_not_remove_are_removed_later_and_hold_up_no_other(world) -> None:
    for _ in range(2):
        await world.node.uploads.start(FileSpec())
    world.clock.advance(world.settings.limits.upload_ttl_s + 1)
    before = len(world.disk.list("uploads"))
    world.disk.faults.append(Fault(at=0, code=errno.EIO, only="remove"))
    with pytest.raises(UploadStorageError):
        await world.node.uploads.step()
    assert 0 < len(world.disk.list("uploads")) < before
    await world.node.uploads.step()
    assert world.disk.list("uploads") == []


async def test_a_repeated_start_is_one_upload(world) -> None:
    first = await world.node.uploads.start(FileSpec(request_id="r", size=3))
    assert await world.node.uploads.start(FileSpec(request_id="r", size=3)) == first
    with pytest.raises(RequestIdConflictError):
        await world.node.uploads.start(FileSpec(request_id="r", size=4))
    await world.restart()
    assert await world.node.uploads.start(FileSpec(request_id="r", size=3)) == first


async def test_limits_are_held_before_anything_is_written(world) -> None:
    await world.node.close()
    world.settings = load_settings(
        data_dir=world.settings.data_dir,
        shard_bits=2,
        log={"segment_bytes": 4 << 20},
        limits={"uploads": 2, "file_bytes": 1000},
    )
    await world.start()
    with pytest.raises(FileTooLargeError):
        await world.node.uploads.start(FileSpec(size=1001))
    upload_id, _ = await world.node.uploads.start(FileSpec())
    with pytest.raises(FileTooLargeError):
        await send(world, upload_id, bytes(1001), chunk=501)
    await world.node.uploads.start(FileSpec())
    with pytest.raises(ExhaustedError) as error:
        await world.node.uploads.start(FileSpec())
    assert error.value.details == {"quota": "uploads", "limit": "2"}


async def test_a_disk_that_refuses_keeps_what_was_answered(world) -> None:
    upload_id, _ = await world.node.uploads.start(FileSpec())
    await send(world, upload_id, b"abc")
    for only in ("pwrite", "sync"):
        world.disk.faults.append(Fault(at=0, code=errno.EIO, only=only))
        with pytest.raises(UploadStorageError):
            await send(world, upload_id, b"defg")
        assert await world.node.uploads.status(upload_id) == 3
    await send(world, upload_id, b"defg")
    assert await whole(world, (await finish(world, upload_id)).file.name) == b"abcdefg"


async def test_a_name_with_other_content_is_refused_at_the_end_and_nothing_is_lost(world) -> None:
    [assigned] = await world.node.assign_names(1, "", "")
    upload_id, _ = await world.node.uploads.start(FileSpec(name=assigned.name))
    await send(world, upload_id, b"mine")
    await world.node.put_bytes(FileSpec(name=assigned.name), b"theirs", google_crc32c.value(b"theirs"))
    with pytest.raises(NameConflictError):
        await finish(world, upload_id)
    assert await world.node.uploads.status(upload_id) == 4
    assert await whole(world, assigned.name) == b"theirs"


async def test_a_crash_between_storing_and_noting_it_is_repeated_without_harm(world, monkeypatch) -> None:
    upload_id, _ = await world.node.uploads.start(FileSpec())
    await send(world, upload_id, b"abc")

    def refuse(*_args: Any) -> None:
        raise OSError(errno.EIO, "not now")

    with monkeypatch.context() as patched:
        patched.setattr(upload_folder.UploadFolder, "save", refuse)
        with pytest.raises(DesError):
            await finish(world, upload_id)
    await world.restart()
    assert await world.node.uploads.status(upload_id) == 3
    result = await finish(world, upload_id)
    assert result.already_existed
    assert await whole(world, result.file.name) == b"abc"
