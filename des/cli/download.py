"""Fetching very many files into a folder."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass

from des_client import AsyncDesClient, DeadlineExceeded, DesClientError, FileInfo, Progress, Unavailable

from des.cli import text
from des.cli.connection import failure
from des.cli.exits import Exit, Failure
from des.cli.folder import Folder, sha256_of
from des.cli.progress import Meter
from des.cli.report import Report
from des.cli.tasks import over_all


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
        await over_all(wanted, self._fetch, jobs)

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
                raise Failure(
                    f"SHA-256 is {sha256}, the manifest says {wanted.sha256}",
                    code=Exit.CORRUPT,
                    reason="SHA256_MISMATCH",
                )
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
