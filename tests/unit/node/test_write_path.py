"""What a put accepts, refuses and repeats."""

import asyncio
import hashlib
from typing import Any

import google_crc32c
import pytest

from des.assignment.assigner import RequestIdConflictError
from des.errors import DisabledError, InvalidInputError
from des.files import (
    Durability,
    FileSpec,
    FileState,
    InvalidMetadataError,
    MetadataTooLargeError,
)
from des.naming import InvalidNameError
from des.node import Node, PutResult
from des.node.write_rules import (
    FileTooLargeError,
    NameConflictError,
    UploadChecksumMismatchError,
    UploadSizeMismatchError,
)

MIB = 1 << 20


async def put(node: Node, data: bytes, **spec: Any) -> PutResult:
    return await node.put_bytes(FileSpec(**spec), data, google_crc32c.value(data))


async def whole(node: Node, name: str) -> bytes:
    return await (await node.open_file(name)).read_whole()


async def test_a_file_is_readable_when_it_is_acknowledged(world) -> None:
    result = await put(world.node, b"abc", content_type="text/plain", metadata={"k": "v", "a": "ż"})
    assert await whole(world.node, result.file.name) == b"abc"
    info = await world.node.stat(result.file.name)
    assert info == result.file
    assert (info.size, info.state, info.content_type) == (3, FileState.OPEN, "text/plain")
    assert dict(info.metadata) == {"k": "v", "a": "ż"}
    assert result.durability is Durability.LOCAL


async def test_what_is_known_of_a_file_stays_the_same_when_it_is_sealed(world) -> None:
    for size in (0, 10, MIB, MIB + 1, 3 * MIB):
        data = bytes(size)
        before = (await put(world.node, data, content_type="a/b", metadata={"n": str(size)})).file
        await world.node.seal_shard(before.shard)
        after = await world.node.stat(before.name)
        assert after.state is FileState.STORED
        assert after.placement is not None
        same = ("name", "day", "shard", "size", "crc32c", "content_type", "created_ms")
        assert [getattr(after, field) for field in same] == [getattr(before, field) for field in same]
        assert dict(after.metadata) == dict(before.metadata)
        assert await whole(world.node, before.name) == data


async def test_the_same_name_and_content_is_answered_as_the_first_was(world) -> None:
    (assigned,) = await world.node.assign_names(1, "", "")
    first = await put(world.node, b"abc", name=assigned.name)
    second = await put(world.node, b"abc", name=assigned.name)
    assert (first.already_existed, second.already_existed) == (False, True)
    await world.node.seal_shard(assigned.shard)
    assert (await put(world.node, b"abc", name=assigned.name)).already_existed


async def test_other_content_under_a_name_is_refused_open_or_sealed(world) -> None:
    (assigned,) = await world.node.assign_names(1, "", "")
    await put(world.node, b"abc", name=assigned.name)
    with pytest.raises(NameConflictError, match=assigned.name.replace("(", r"\(").replace(")", r"\)")):
        await put(world.node, b"abd", name=assigned.name)
    await world.node.seal_shard(assigned.shard)
    with pytest.raises(NameConflictError):
        await put(world.node, b"", name=assigned.name)
    assert await whole(world.node, assigned.name) == b"abc"


async def test_concurrent_puts_of_one_name_have_one_winner(world) -> None:
    (assigned,) = await world.node.assign_names(1, "", "")
    answers = await asyncio.gather(
        *(put(world.node, b"%d" % (number % 2), name=assigned.name) for number in range(20)),
        return_exceptions=True,
    )
    written = [answer for answer in answers if isinstance(answer, PutResult) and not answer.already_existed]
    refused = [answer for answer in answers if isinstance(answer, NameConflictError)]
    assert (len(written), len(refused)) == (1, 10)


async def test_a_repeated_request_is_one_file(world) -> None:
    answers = await asyncio.gather(*(put(world.node, b"abc", request_id="r") for _ in range(10)))
    assert len({answer.file.name for answer in answers}) == 1
    assert sum(not answer.already_existed for answer in answers) == 1
    await world.restart()
    assert (await put(world.node, b"abc", request_id="r")).file.name == answers[0].file.name
    with pytest.raises(RequestIdConflictError):
        await put(world.node, b"abd", request_id="r")


async def test_a_cancelled_put_leaves_all_or_nothing_and_can_be_repeated(world) -> None:
    task = asyncio.ensure_future(put(world.node, b"abc", request_id="r"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await put(world.node, b"abc", request_id="r")
    assert await whole(world.node, again.file.name) == b"abc"
    status = await world.node.shard_status(None)
    assert sum(shard.open_files for shard in status) == 1


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"name": "nonsense"}, InvalidNameError),
        ({"name": "../../etc/passwd"}, InvalidNameError),
        ({"name": "DES_20261123_(000000000000_01)"}, InvalidNameError),
        ({"name": "DES_20261331_(000000000000_00)"}, InvalidNameError),
        # Well formed, but no millisecond of that day has this counter.
        ({"name": "DES_20261123_(FFFFFFFF0000_FC)"}, InvalidNameError),
        ({"name": "DES_20261123_(000000000000_00)\n"}, InvalidNameError),
        ({"name": "DES_20261123_(000000000000_00)", "prefix": "X"}, InvalidInputError),
        ({"prefix": "no_underscores"}, InvalidInputError),
        ({"metadata": {"Upper": "x"}}, InvalidMetadataError),
        ({"metadata": {"": "x"}}, InvalidMetadataError),
        ({"metadata": {"_des": "x"}}, InvalidMetadataError),
        ({"metadata": {"size": "x"}}, InvalidMetadataError),
        ({"metadata": {"is_external": "x"}}, InvalidMetadataError),
        ({"metadata": {"k": "\ud800"}}, InvalidMetadataError),
        ({"metadata": {"k": "x" * 9000}}, MetadataTooLargeError),
        ({"metadata": {f"k{number}": "" for number in range(65)}}, MetadataTooLargeError),
        ({"content_type": "text/plain\r\nx: y"}, InvalidInputError),
        ({"content_type": "x" * 256}, InvalidInputError),
        ({"request_id": "x" * 129}, InvalidInputError),
        ({"request_id": "a\x00b"}, InvalidInputError),
        ({"size": 4}, UploadSizeMismatchError),
        ({"size": -1}, InvalidInputError),
        ({"size": 1 << 50}, FileTooLargeError),
        ({"durability": Durability.STORED}, DisabledError),
    ],
)
async def test_a_put_that_breaks_a_rule_writes_nothing(world, spec, error) -> None:
    with pytest.raises(error):
        await put(world.node, b"abc", **spec)
    assert sum(shard.open_files for shard in await world.node.shard_status(None)) == 0


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 3, 9 * MIB])
@pytest.mark.parametrize("piece", [100_000, MIB, 2 * MIB])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_streamed_file_comes_back_whole_and_in_ranges(world, size, piece, declared) -> None:
    data = world.rng.randbytes(size)
    upload = await world.node.begin_put(FileSpec(size=size if declared else None))
    for start in range(0, size, piece):
        await upload.write(data[start : start + piece])
    result = await upload.finish(google_crc32c.value(data), hashlib.sha256(data).digest())
    for _ in range(2):
        opened = await world.node.open_file(result.file.name)
        assert await opened.read_whole() == data
        for start, stop in [(0, 0), (0, min(5, size)), (size // 2, size), (size // 3, size // 3 + size // 4)]:
            assert b"".join([part async for part in opened.read(start, stop)]) == data[start:stop]
        await world.node.seal_shard(result.file.shard)


async def test_a_big_file_lies_beside_the_containers(world) -> None:
    upload = await world.node.begin_put(FileSpec())
    await upload.write(bytes(MIB))
    await upload.write(b"x")
    result = await upload.finish(None)
    keys = [info.key async for info in world.store.list("20")]
    assert len(keys) == 1
    assert f"/_bigFiles/{result.file.name}." in keys[0]


@pytest.mark.parametrize("size", [5, 2 * MIB])
async def test_an_upload_that_does_not_match_its_checksums_leaves_nothing(world, size) -> None:
    data = bytes(size)
    for crc32c, sha256 in [(1, None), (None, bytes(32))]:
        upload = await world.node.begin_put(FileSpec())
        await upload.write(data)
        with pytest.raises(UploadChecksumMismatchError):
            await upload.finish(crc32c, sha256)
        await upload.abort()
    assert sum(shard.open_files for shard in await world.node.shard_status(None)) == 0
    assert [info async for info in world.store.list("20")] == []


async def test_an_upload_with_more_or_fewer_bytes_than_declared_is_refused(world) -> None:
    upload = await world.node.begin_put(FileSpec(size=3))
    await upload.write(b"ab")
    with pytest.raises(UploadSizeMismatchError):
        await upload.finish(None)
    await upload.abort()
    upload = await world.node.begin_put(FileSpec(size=3))
    with pytest.raises(UploadSizeMismatchError):
        await upload.write(b"abcd")
    await upload.abort()
    await upload.abort()


async def test_an_abandoned_upload_keeps_no_log(world) -> None:
    upload = await world.node.begin_put(FileSpec())
    for _ in range(3):
        await upload.write(bytes(300_000))
    await upload.abort()
    assert not world.node._log._segments.loose


async def test_a_repeated_big_file_leaves_no_second_object(world) -> None:
    names = set()
    for _ in range(2):
        upload = await world.node.begin_put(FileSpec(request_id="big"))
        await upload.write(bytes(MIB))
        await upload.write(bytes(MIB))
        names.add((await upload.finish(None)).file.name)
    assert len(names) == 1
    assert len([info async for info in world.store.list("20")]) == 1
