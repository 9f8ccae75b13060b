"""The log over a real disk and real threads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import google_crc32c
import pytest

from des.clock import SystemClock
from des.config.settings import LogSettings
from des.ingest.log import IngestLog
from des.ingest.values import FileDraft, OpenFile, RecoveredLog
from des.storage.posix_disk import PosixDisk

NODE = UUID(int=7)


def draft(name: str, data: bytes) -> FileDraft:
    return FileDraft(name, 20261123, 3, len(data), google_crc32c.value(data), b"{}", data)


@asynccontextmanager
async def opened(
    root: Path, epoch: int, published: list[OpenFile] | None = None, **settings: object
) -> AsyncIterator[tuple[IngestLog, RecoveredLog]]:
    def publish(files: Sequence[OpenFile]) -> None:
        if published is not None:
            published.extend(files)

    with ThreadPoolExecutor(4) as executor:
        log, recovered = await IngestLog.open(
            PosixDisk(root),
            clock=SystemClock(),
            node=NODE,
            boot_epoch=epoch,
            settings=LogSettings.model_validate({"reserve_free_bytes": 0, **settings}),
            executor=executor,
            publish=publish,
            salt=lambda: 99,
        )
        try:
            yield log, recovered
        finally:
            await log.close()


async def test_what_was_appended_is_read_back_now_and_after_a_restart(tmp_path):
    contents = {f"f{n}": bytes([n]) * (n * 100) for n in range(50)}
    published: list[OpenFile] = []
    async with opened(tmp_path, 1, published, segment_bytes=16 << 10) as (log, recovered):
        assert recovered.files == []
        files = await asyncio.gather(*(log.append_file(draft(*item)) for item in contents.items()))
        assert published == files
        for file in files:
            for extent in file.extents:
                assert contents[file.name] == await log.reader.read(extent)
                assert log.reader.read_cached(extent) in {None, contents[file.name]}
    async with opened(tmp_path, 2) as (log, recovered):
        assert recovered.read_only_cause is None
        assert files == recovered.files
        for file in recovered.files:
            for extent in file.extents:
                assert contents[file.name] == await log.reader.read(extent)


async def test_a_log_that_was_not_closed_is_copied_and_goes_on(tmp_path):
    async with opened(tmp_path, 1) as (log, _):
        first = await log.append_file(draft("a", b"first"))
        log._committer.failure = RuntimeError()  # what a power cut does: no END is written
    async with opened(tmp_path, 2) as (log, recovered):
        assert recovered.read_only_cause is None
        assert [first] == recovered.files
        second = await log.append_file(draft("b", b"second"))
        assert second.seq > first.seq
        assert second.segment == first.segment + 1
    async with opened(tmp_path, 3) as (_, recovered):
        assert [first, second] == recovered.files


async def test_a_wrong_checksum_is_refused_before_it_can_spoil_the_log(tmp_path):
    async with opened(tmp_path, 1) as (log, _):
        with pytest.raises(ValueError, match="checksum"):
            await log.append_file(FileDraft("a", 20261123, 0, 3, 1, b"", b"abc"))
