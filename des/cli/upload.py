"""Storing very many files: read ahead in threads, many calls in flight, one result at a time.

    paths -> find -> load batches (threads: read, SHA-256) -> bounded queue -> puts in flight -> report
                                                                            -> small ones: put_many ----^

A file that fails is reported and the rest goes on. Only a server that stays away ends the whole: every
further file would wait for it in vain.
"""

import asyncio
import base64
import hashlib
import mimetypes
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias

import google_crc32c
from des_client import (
    AsyncDesClient,
    BatchProgress,
    DeadlineExceeded,
    DesClientError,
    Durability,
    Progress,
    PutItem,
    PutResult,
    Unavailable,
)

from des.cli import manifest, sources, text
from des.cli.connection import failure
from des.cli.exits import Exit, Failure
from des.cli.progress import Meter
from des.cli.report import Report, say
from des.cli.sources import Found, Skipped, Source, Stream, Unreadable
from des.cli.tasks import first_of

SMALL_BYTES: Final = 256 * text.KIB
"""A file up to this long is read whole; with all that is in flight this bounds the memory."""
LARGE_IN_FLIGHT: Final = 8
LOADERS: Final = 4
BATCH_FILES: Final = 64
BATCH_BYTES: Final = 4 * SMALL_BYTES
CHUNK_BYTES: Final = text.KIB**2
PAGE_BYTES: Final = 4096

_ENCODED: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user said about the files."""

    name: str | None = None
    prefix: str = ""
    content_type: str | None = None
    """For every file; None to guess from the path."""
    guess_content_type: bool = True
    keep_path: bool = True
    metadata: Mapping[str, str] | None = None
    durability: Durability | None = None
    follow: bool = False
    in_flight: int = 64


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file in memory."""

    found: Source | Stream
    data: bytes
    sha256: str


Item: TypeAlias = Loaded | Source | Stream | Unreadable

TOLD_WAITS: Final = frozenset({"DISK_FULL", "QUOTA_EXCEEDED", "LOG_FAILED"})
"""What does not pass in a moment, as a busy server does: somebody has to do something about it."""


class Upload:
    """Stores what paths mean."""

    def __init__(
        self,
        client: AsyncDesClient,
        choice: Choice,
        report: Report,
        meter: Meter,
        writer: manifest.ManifestWriter | None,
        *,
        resume: bool,
    ) -> None:
        self._client = client
        self._choice = choice
        self._report = report
        self._meter = meter
        self._writer = writer
        self._past = writer.known if writer is not None and resume else frozenset[bytes]()
        self._keys: set[bytes] = set()
        """Paths of this run, kept only for a manifest, where two files of one path would be confused."""
        self._large = asyncio.Semaphore(LARGE_IN_FLIGHT)
        self._small: asyncio.Queue[Loaded | None] | None = None
        """Small files on their way to one stream; None where the server has no batches."""
        self._stopped = threading.Event()
        self._waits_for = ""
        """Reason for which files wait, as it was told last."""
        self._answered_s = 0.0
        """Loop time of the server's last answer."""

    async def run(self, paths: Sequence[str]) -> None:
        """Store everything.

        Raises:
            Failure: the server stays away, or the manifest cannot be written.
        """
        found = sources.find(paths, follow=self._choice.follow)
        lock = threading.Lock()
        queue: asyncio.Queue[Item | None] = asyncio.Queue(self._choice.in_flight)
        if "batch" in (await self._client.server_info()).features:
            self._small = asyncio.Queue(BATCH_FILES)

        async def load() -> None:
            while batch := await asyncio.to_thread(self._load, found, lock):
                for item in batch:
                    await queue.put(item)

        async def store() -> None:
            while (item := await queue.get()) is not None:
                await self._store(item)

        async def store_all() -> None:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._choice.in_flight):
                    workers.create_task(store())
            if self._small is not None:
                await self._small.put(None)

        async def feed() -> None:
            async with asyncio.TaskGroup() as loaders:
                for _ in range(LOADERS):
                    loaders.create_task(load())
            for _ in range(self._choice.in_flight):
                await queue.put(None)

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(feed())
                tasks.create_task(store_all())
                if self._small is not None:
                    tasks.create_task(self._store_small(self._small))
        except BaseExceptionGroup as failures:
            raise first_of(failures) from None
        finally:
            self._stopped.set()

    # --- in a thread: find and read ----------------------------------------------------------

    def _load(self, found: Iterator[Found], lock: threading.Lock) -> list[Item]:
        """Take the next files and read the small ones; empty when there are no more."""
        batch: list[Source | Stream | Unreadable] = []
        size = 0
        with lock:
            for one in found:
                if self._stopped.is_set():
                    break
                if (wanted := self._wanted(one)) is None:
                    continue
                batch.append(wanted)
                size += one.size if isinstance(one, Source) else 0
                if len(batch) >= BATCH_FILES or size >= BATCH_BYTES or isinstance(one, Stream):
                    break
        return [_read(one) if isinstance(one, Source) and one.size <= SMALL_BYTES else one for one in batch]

    def _wanted(self, found: Found) -> Source | Stream | Unreadable | None:
        """Pass on what is to be stored or reported as failed; count what is skipped."""
        if isinstance(found, Skipped):
            self._report.skip(found.why)
            return None
        if not isinstance(found, Source) or self._writer is None:
            return found
        key = manifest.digest(found.key)
        if key in self._past:
            self._report.skip("stored before")
            return None
        if key in self._keys:
            return Unreadable(
                found.path, f"another file of this run has the path {found.key!r} in the manifest"
            )
        self._keys.add(key)
        return found

    # --- in the loop: store ------------------------------------------------------------------

    async def _store(self, item: Item) -> None:
        if isinstance(item, Loaded) and self._small is not None:
            await self._small.put(item)
            return
        started_s = asyncio.get_running_loop().time()
        try:
            match item:
                case Unreadable():
                    raise Failure(item.why)
                case Loaded():
                    result = await self._put(item.found, item.data)
                    self._meter.add(size=len(item.data))
                    sha256 = item.sha256
                case Source():
                    result, sha256 = await self._store_large(item)
                case Stream():
                    result, sha256 = await self._store_stream(item)
        except DesClientError as error:
            self._failed(item, failure(error))
            if isinstance(error, (Unavailable, DeadlineExceeded)) and self._answered_s <= started_s:
                raise self._stayed_away(error) from None
        except OSError as error:
            self._failed(item, Failure(error.strerror or str(error), reason="UNREADABLE"))
        except Failure as cause:
            self._failed(item, cause)
        else:
            self._answered_s = asyncio.get_running_loop().time()
            self._done(item, result, sha256)

    async def _store_small(self, small: asyncio.Queue[Loaded | None]) -> None:
        """Store small files, hundreds per message, until there are no more.

        Raises:
            Failure: the server stays away.
        """

        async def items() -> AsyncIterator[PutItem]:
            while (item := await small.get()) is not None:
                key = item.found.key if isinstance(item.found, Source) else None
                yield PutItem(
                    item.data,
                    name=self._choice.name,
                    prefix=self._choice.prefix or None,
                    content_type=self._content_type(key),
                    metadata=self._metadata(key),
                    key=item,
                )

        loop = asyncio.get_running_loop()
        outcomes = self._client.put_many(
            items(), durability=self._choice.durability, ordered=False, on_progress=self._tell_wait
        )
        try:
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    item = outcome.key
                    if isinstance(outcome.error, DesClientError):
                        self._failed(item, failure(outcome.error))
                        continue
                    result = outcome.unwrap()
                    self._meter.add(size=len(item.data))
                    self._answered_s = loop.time()
                    self._done(item, result, item.sha256)
        except (Unavailable, DeadlineExceeded) as error:
            raise self._stayed_away(error) from None

    def _tell_wait(self, progress: BatchProgress) -> None:
        """Say once what files wait for, and again when it is something else."""
        waits_for = getattr(progress.waiting_for, "reason", "")
        if waits_for in TOLD_WAITS and waits_for != self._waits_for:
            say(f"waiting, for the server takes no files now: {progress.waiting_for}")
        self._waits_for = waits_for

    def _stayed_away(self, error: DesClientError) -> Failure:
        return Failure(
            f"stopped: {error}; what is in a manifest is stored, `--resume` goes on from there",
            code=Exit.UNAVAILABLE,
        )

    async def _put(self, found: Source | Stream, data: Any, **more: Any) -> PutResult:
        key = found.key if isinstance(found, Source) else None
        return await self._client.put(
            data,
            name=self._choice.name,
            prefix=self._choice.prefix,
            content_type=self._content_type(key),
            metadata=self._metadata(key),
            durability=self._choice.durability,
            **more,
        )

    async def _store_large(self, source: Source) -> tuple[PutResult, str]:
        sent = 0

        def on_progress(progress: Progress) -> None:
            nonlocal sent
            self._meter.add(size=progress.done_bytes - sent)
            sent = progress.done_bytes

        async with self._large:
            with _open(source.path) as file:
                size, crc32c, sha256 = await asyncio.to_thread(_digests, file)
                file.seek(0)
                result = await self._put(source, file, size=size, on_progress=on_progress)
        self._meter.add(size=size - sent)
        if (result.file.size_bytes, result.file.crc32c) != (size, crc32c):
            stored = f"{result.file.size_bytes} bytes with CRC32C {text.checksum(result.file.crc32c)}"
            raise Failure(
                f"changed while it was read: {result.file.name} holds {stored},"
                f" expected {size} bytes with {text.checksum(crc32c)}",
                reason="FILE_CHANGED",
            )
        return result, sha256

    async def _store_stream(self, stream: Stream) -> tuple[PutResult, str]:
        reader = await asyncio.to_thread(sources.StreamReader, stream, self._stopped.is_set)
        sha256 = hashlib.sha256()

        def pieces() -> Iterator[bytes]:
            while piece := reader.read():
                sha256.update(piece)
                self._meter.add(size=len(piece))
                yield piece

        try:
            return await self._put(stream, pieces()), sha256.hexdigest()
        finally:
            reader.close()

    def _content_type(self, key: str | None) -> str:
        if self._choice.content_type is not None:
            return self._choice.content_type
        if key is None or not self._choice.guess_content_type:
            return ""
        kind, encoding = mimetypes.guess_type(key, strict=False)
        if encoding is not None:
            return _ENCODED.get(encoding, "application/octet-stream")
        return kind or ""

    def _metadata(self, key: str | None) -> dict[str, str]:
        given = dict(self._choice.metadata or {})
        if key is None or not self._choice.keep_path:
            return given
        try:
            key.encode()
        except UnicodeEncodeError:
            # Metadata is Unicode; the exact bytes travel beside a path that people can read.
            raw = os.fsencode(key)
            return {
                "path": raw.decode(errors="replace"),
                "path.b64": base64.urlsafe_b64encode(raw).decode(),
                **given,
            }
        return {"path": key, **given}

    # --- results -----------------------------------------------------------------------------

    def _done(self, item: Item, result: PutResult, sha256: str) -> None:
        found = item.found if isinstance(item, Loaded) else item
        file = result.file
        if self._writer is not None:
            key = found.key if isinstance(found, Source) else found.path
            try:
                self._writer.append(manifest.Entry(file.name, sha256, key))
            except OSError as error:
                raise Failure(f"stopped: the manifest cannot be written: {error}") from None
        self._meter.add(files=1)
        self._report.done(
            {
                "name": file.name,
                "path": found.path,
                "size": file.size_bytes,
                "crc32c": text.checksum(file.crc32c),
                "sha256": sha256,
                "shard": file.shard_id,
                "already_existed": result.already_existed,
            },
            f"{file.name}  {text.escape(found.path)}",
            size=file.size_bytes,
            explicit=not isinstance(found, Source) or found.explicit,
        )

    def _failed(self, item: Item, cause: Failure) -> None:
        self._meter.add(files=1)
        self._report.failed({"path": item.found.path if isinstance(item, Loaded) else item.path}, cause)


def _open(path: str) -> BinaryIO:
    # Non-blocking: a pipe that took the file's place must not hang the import.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError("is no regular file any more")
    return os.fdopen(fd, "rb", buffering=0)


def _read(source: Source) -> Item:
    pieces: list[bytes] = []
    size = 0
    try:
        with _open(source.path) as file:
            # Read to the end, wherever it is by now.
            while size <= SMALL_BYTES and (piece := file.read(max(source.size - size, PAGE_BYTES) + 1)):
                pieces.append(piece)
                size += len(piece)
    except OSError as error:
        return Unreadable(source.path, error.strerror or str(error))
    if size > SMALL_BYTES:
        return source
    data = b"".join(pieces)
    return Loaded(source, data, hashlib.sha256(data).hexdigest())


def _digests(file: BinaryIO) -> tuple[int, int, str]:
    """Read a file once for its size, CRC32C and SHA-256."""
    size, crc32c, sha256 = 0, 0, hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        size += len(chunk)
        crc32c = google_crc32c.extend(crc32c, chunk)
        sha256.update(chunk)
    return size, crc32c, sha256.hexdigest()
