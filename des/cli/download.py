"""Fetching very many files into a folder.

wanted -> groups -> there already? (threads) -> sizes: stat_many -> small: get_many -> write (threads)
                                                                 -> large: one by one, streamed
"""

import asyncio
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from des_client import (
    AsyncDesClient,
    DeadlineExceeded,
    DesClientError,
    FileInfo,
    GetItem,
    Progress,
    Unavailable,
)

from des.cli import text
from des.cli.connection import failure
from des.cli.exits import Exit, Failure
from des.cli.folder import Folder, sha256_of
from des.cli.progress import Meter
from des.cli.report import Report
from des.cli.tasks import over_all

GROUP_FILES: Final = 512
"""Files whose sizes are asked for in one call."""
GROUPS_IN_FLIGHT: Final = 4
SMALL_BYTES: Final = 256 * text.KIB
"""A file up to this long comes among others, held in memory whole."""
WRITE_FILES: Final = 64
"""Files that one visit of a thread writes."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to fetch."""

    name: str
    path: str
    """Where it goes, below the folder."""
    sha256: str | None = None
    """What its bytes must have, in hex; None when unknown."""


class Download:
    """Fetches files into a folder; one that fails does not stop the rest."""

    def __init__(
        self, client: AsyncDesClient, shown: str, folder: Folder, report: Report, meter: Meter
    ) -> None:
        self._client = client
        self._shown = shown
        self._folder = folder
        self._report = report
        self._meter = meter
        self._answered_s = 0.0
        """Loop time of the server's last answer."""

    async def run(self, wanted: Iterable[Wanted], jobs: int) -> None:
        """Fetch everything.

        Raises:
            Failure: the server stays away.
        """
        if "batch" in (await self._client.server_info()).features:
            await over_all(_groups(wanted), self._fetch_group, GROUPS_IN_FLIGHT)
        else:
            await over_all(wanted, self._fetch, jobs)

    async def _fetch_group(self, group: list[Wanted]) -> None:
        """Fetch some files, the small ones together.

        Raises:
            Failure: the server stays away.
        """
        left = await asyncio.to_thread(self._missing, group)
        for wanted in group:
            if wanted not in left:
                self._done(wanted, None)
        small: list[GetItem] = []
        large: list[Wanted] = []
        wanted_items = list(left)
        infos: dict[int, FileInfo] = {}
        try:
            async with aclosing(self._client.stat_many([one.name for one in wanted_items])) as facts:
                async for fact in facts:
                    wanted = wanted_items[fact.index]
                    if isinstance(fact.error, DesClientError):
                        self._failed(wanted, failure(fact.error))
                    elif fact.file is not None and fact.file.size_bytes <= SMALL_BYTES:
                        infos[len(small)] = fact.file
                        small.append(GetItem(wanted.name, key=wanted))
                    else:
                        large.append(wanted)
            await self._fetch_small(small, infos)
        except (Unavailable, DeadlineExceeded) as error:
            raise Failure(f"stopped: {error}", code=Exit.UNAVAILABLE) from None
        for wanted in large:
            await self._fetch(wanted)

    async def _fetch_small(self, items: list[GetItem], infos: dict[int, FileInfo]) -> None:
        ready: list[tuple[Wanted, FileInfo, bytes]] = []
        async with aclosing(self._client.get_many(items, ordered=False)) as outcomes:
            async for outcome in outcomes:
                self._answered_s = asyncio.get_running_loop().time()
                if isinstance(outcome.error, DesClientError):
                    self._failed(outcome.key, failure(outcome.error))
                    continue
                ready.append((outcome.key, infos[outcome.index], outcome.unwrap()))
                if len(ready) == WRITE_FILES:
                    await self._write(ready)
                    ready = []
        await self._write(ready)

    async def _write(self, files: list[tuple[Wanted, FileInfo, bytes]]) -> None:
        for wanted, info, result in await asyncio.to_thread(self._written, files):
            if isinstance(result, Failure):
                self._failed(wanted, result)
            else:
                self._meter.add(size=info.size_bytes)
                self._done(wanted, (info, result))

    def _written(
        self, files: list[tuple[Wanted, FileInfo, bytes]]
    ) -> list[tuple[Wanted, FileInfo, str | Failure]]:
        """Write files, in a thread; return the SHA-256 of each, or why it is not there."""
        results: list[tuple[Wanted, FileInfo, str | Failure]] = []
        for wanted, info, data in files:
            result: str | Failure = hashlib.sha256(data).hexdigest()
            try:
                if wanted.sha256 is not None and result != wanted.sha256:
                    raise _other_content(str(result), wanted.sha256)
                with self._folder.replace(wanted.path) as file:
                    file.write(data)
            except OSError as error:
                result = Failure(error.strerror or str(error), reason="UNWRITABLE")
            except Failure as cause:
                result = cause
            results.append((wanted, info, result))
        return results

    def _missing(self, group: list[Wanted]) -> dict[Wanted, None]:
        """Return, in order, what is not there already with the right bytes."""
        return {one: None for one in group if one.sha256 is None or not self._present(one)}

    async def _fetch(self, wanted: Wanted) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        try:
            found = await self._one(wanted)
        except DesClientError as error:
            self._failed(wanted, failure(error))
            if isinstance(error, (Unavailable, DeadlineExceeded)) and self._answered_s <= started_s:
                raise Failure(f"stopped: {error}", code=Exit.UNAVAILABLE) from None
        except OSError as error:
            self._failed(wanted, Failure(error.strerror or str(error), reason="UNWRITABLE"))
        except Failure as cause:
            self._failed(wanted, cause)
        else:
            self._answered_s = loop.time()
            self._done(wanted, found)

    async def _one(self, wanted: Wanted) -> tuple[FileInfo, str] | None:
        """Fetch one file; None when it is there already."""
        if wanted.sha256 is not None and await asyncio.to_thread(self._present, wanted):
            return None
        moved = 0

        def on_progress(progress: Progress) -> None:
            nonlocal moved
            self._meter.add(size=progress.done_bytes - moved)
            moved = progress.done_bytes

        with self._folder.replace(wanted.path) as file:
            info = await self._client.get_to(wanted.name, file, on_progress=on_progress)
            file.seek(0)
            sha256 = await asyncio.to_thread(sha256_of, file)
            if wanted.sha256 is not None and sha256 != wanted.sha256:
                raise _other_content(sha256, wanted.sha256)
        return info, sha256

    def _present(self, wanted: Wanted) -> bool:
        return self._folder.sha256(wanted.path) == wanted.sha256

    def _done(self, wanted: Wanted, found: tuple[FileInfo, str] | None) -> None:
        self._meter.add(files=1)
        if found is None:
            self._report.skip("there already")
            return
        info, sha256 = found
        path = os.path.join(self._shown, wanted.path) if self._shown != "." else wanted.path  # noqa: PTH118
        self._report.done(
            {
                "name": info.name,
                "path": path,
                "size": info.size_bytes,
                "crc32c": text.checksum(info.crc32c),
                "sha256": sha256,
                "shard": info.shard_id,
            },
            f"{info.name}  {text.escape(path)}",
            size=info.size_bytes,
            explicit=wanted.sha256 is None,
        )

    def _failed(self, wanted: Wanted, cause: Failure) -> None:
        self._meter.add(files=1)
        self._report.failed({"path": wanted.path, "name": wanted.name}, cause)


def _groups(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    source = iter(wanted)
    while group := list(itertools.islice(source, GROUP_FILES)):
        yield group


def _other_content(found: str, expected: str) -> Failure:
    return Failure(
        f"SHA-256 is {found}, the manifest says {expected}", code=Exit.CORRUPT, reason="SHA256_MISMATCH"
    )
