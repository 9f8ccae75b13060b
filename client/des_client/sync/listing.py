# Made by scripts/make_sync_client.py from des_client/aio/listing.py: change that one.
"""Which files there are."""

import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime

from des_proto.v1 import file_service_pb2, types_pb2

from des_client import calls, convert
from des_client.errors import Internal
from des_client.items import FilePage
from des_client.sync.batch import Batch
from des_client.types import FileInfo

Answers = Callable[
    [str, "types_pb2.FileView.ValueType"], Generator[file_service_pb2.ListFilesResponse, None, None]
]
"""Asks for one page after the other from a token on, of each file what a view holds."""


class FileList:
    """A listing: iterate it for files, `pages` for one answer of the server after the other.

    Every iteration asks anew. Files that are written meanwhile may or may not appear; no file appears
    twice, and none that stands still is left out.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __iter__(self) -> Iterator[FileInfo]:
        return self._files()

    def _files(self) -> Generator[FileInfo, None, None]:
        with closing(self.pages()) as pages:
            for page in pages:
                yield from page.files

    def pages(self, page_token: str = "") -> Generator[FilePage, None, None]:
        """Give page after page, from the beginning or from an earlier page's `next_page_token`."""
        with closing(self._answers(page_token, types_pb2.FILE_VIEW_UNSPECIFIED)) as answers:
            for answer in answers:
                yield convert.file_page(answer)

    def names(self, page_token: str = "") -> Generator[str, None, None]:
        """Give the names alone: the server reads nothing of the files themselves for them."""
        with closing(self._answers(page_token, types_pb2.FILE_VIEW_NAME)) as answers:
            for answer in answers:
                for file in answer.files:
                    yield file.name


class Listing(Batch):
    """Calls that list files."""

    def list(
        self,
        *,
        day: str = "",
        shard_ids: Iterable[int] = (),
        prefix: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        show_deleted: bool = False,
        with_metadata: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> FileList:
        """List files; nothing is asked before it is iterated.

        >>> day = (des.assign_names())[0].day
        >>> files = [file for file in des.list(day=day, prefix="DES")]
        >>> name in [file.name for file in files]
        True

        Args:
            day: the UTC day in the names, YYYY-MM-DD; empty for every day.
            shard_ids: only these shards; none for all.
            prefix: how names begin.
            created_after: only files whose names were assigned at or after this moment.
            created_before: only files whose names were assigned before it.
            show_deleted: files that were deleted, too.
            with_metadata: also the writers' metadata and the place of the bytes; costs more per file.
            page_size: files per answer; 0 for as many as the server thinks fit.
            timeout_s: for each page, instead of the client's.
        """
        request = calls.list_request(
            day=day,
            shard_ids=shard_ids,
            prefix=prefix,
            created_after=created_after,
            created_before=created_before,
            show_deleted=show_deleted,
            with_metadata=with_metadata,
            page_size=page_size,
        )
        page_timeout_s = calls.timeout(timeout_s, self._timeout_s)

        return FileList(functools.partial(self._list_answers, request, page_timeout_s))

    def _list_answers(
        self,
        request: file_service_pb2.ListFilesRequest,
        page_timeout_s: float,
        page_token: str,
        view: "types_pb2.FileView.ValueType",
    ) -> Generator[file_service_pb2.ListFilesResponse, None, None]:
        """Ask for one page after the other: what every iteration of a listing comes to."""
        while True:
            page = file_service_pb2.ListFilesRequest()
            page.CopyFrom(request)
            page.page_token = page_token
            if view:
                page.view = view
            answer = self._call(lambda channel: channel.files.ListFiles, page, page_timeout_s)
            yield answer
            if not answer.next_page_token:
                return
            if answer.next_page_token == page_token:
                raise Internal(f"page token {page_token!r} leads to itself")
            page_token = answer.next_page_token

    def iter_names(
        self,
        *,
        day: str = "",
        shard_ids: Iterable[int] = (),
        prefix: str = "",
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> Generator[str, None, None]:
        """Give the names of all files, or of those asked for as `list` does; faster than whole files.

        >>> name in [one for one in des.iter_names(prefix="DES")]
        True
        """
        files = self.list(
            day=day, shard_ids=shard_ids, prefix=prefix, page_size=page_size, timeout_s=timeout_s
        )
        return files.names()
