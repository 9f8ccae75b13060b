"""DES for whatever reads through fsspec: `des://host:port/NAME`.

Needs the extra `fsspec`. The store is one flat folder of names. Reading any number of files costs as much as
`get_many`; writing takes a name that was reserved with `assign_names`, since a store gives its names itself.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from fsspec.utils import stringify_path

from des_client.channels import DEFAULT_TARGET
from des_client.errors import RangeNotSatisfiable
from des_client.items import GetItem, PutItem
from des_client.sync.client import DesClient
from des_client.types import FileInfo

SPOOL_BYTES: Final = 8 << 20
"""A file being written is kept in memory up to this long, then on disk. It goes out when closed."""

_MAGIC: Final = "*?["


class DesFileSystem(AbstractFileSystem):
    """A store as an fsspec file system.

    >>> import fsspec
    >>> fs = fsspec.filesystem("des", target="127.0.0.1:7420")
    >>> fs.cat_file(name)
    b'hello'
    >>> with fsspec.open(f"des://127.0.0.1:7420/{name}") as file:
    ...     file.seek(-2, 2), file.read()
    (3, b'lo')
    """

    protocol = "des"
    root_marker: ClassVar[str] = ""

    def __init__(self, target: str | Sequence[str] = DEFAULT_TARGET, **options: Any) -> None:
        """Take note of where the store is.

        Args:
            target: as `DesClient` takes it; in a URL, its host and port.
            options: what else `DesClient` takes (`token`, `tls`, `timeout_s`), and fsspec's own.
        """
        own = {key: options.pop(key) for key in tuple(options) if key in _CLIENT_OPTIONS}
        super().__init__(**options)
        self.target = target
        self._client_options = own
        self._clients: dict[int, DesClient] = {}

    @property
    def client(self) -> DesClient:
        """The client of this process: one that was forked off needs another."""
        process = os.getpid()
        if process not in self._clients:
            self._clients = {process: DesClient(self.target, **self._client_options)}
        return self._clients[process]

    @property
    def fsid(self) -> str:
        """Which store this is."""
        return f"des_{self.client.server_info().store_id}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        path = stringify_path(path)
        if path.startswith("des://"):
            path = path.removeprefix("des://").partition("/")[2]
        return path.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        address = urlsplit(path).netloc if path.startswith("des://") else ""
        return {"target": address} if address else {}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a name."""
        target = self.target if isinstance(self.target, str) else self.target[0]
        return f"des://{target}/{self._strip_protocol(name)}"

    # --- looking ---------------------------------------------------------------------------

    def ls(self, path: str, detail: bool = True, **_options: Any) -> list[Any]:  # noqa: FBT001, FBT002  fsspec's
        """List the store's files, or one file."""
        name = self._strip_protocol(path)
        entries = [self.info(name)] if name else [_entry(file) for file in self.client.list()]
        return entries if detail else [one["name"] for one in entries]

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,  # noqa: FBT001, FBT002  fsspec's
        detail: bool = False,  # noqa: FBT001, FBT002  fsspec's
        prefix: str = "",
        **_options: Any,
    ) -> Any:
        """List the files whose names begin with `path` and `prefix`; the server looks for them."""
        del maxdepth, withdirs
        found = {
            file.name: _entry(file) for file in self.client.list(prefix=self._strip_protocol(path) + prefix)
        }
        return found if detail else list(found)

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """List the files that match; only those with the literal beginning of `path` are asked for."""
        pattern = self._strip_protocol(path)
        literal = pattern[
            : min((pattern.find(one) for one in _MAGIC if one in pattern), default=len(pattern))
        ]
        names = _Listed(self, literal)
        return names.glob(pattern, maxdepth=maxdepth, **options)

    def info(self, path: str, **_options: Any) -> dict[str, Any]:
        """Describe a file, or the store as a folder."""
        name = self._strip_protocol(path)
        if not name:
            return {"name": "", "size": 0, "type": "directory"}
        return _entry(self.client.stat(name))

    def exists(self, path: str, **_options: Any) -> bool:
        """Tell whether there is such a file. "I cannot tell" is an error, never False."""
        name = self._strip_protocol(path)
        return not name or self.client.exists(name)

    def isdir(self, path: str) -> bool:
        """Tell whether this is the store itself: there are no other folders."""
        return not self._strip_protocol(path)

    def isfile(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return not self.isdir(path) and self.exists(path)

    def created(self, path: str) -> Any:
        """Return when the name was assigned."""
        return self.info(path)["created"]

    def modified(self, path: str) -> Any:
        """Return the same: a file never changes."""
        return self.created(path)

    def ukey(self, path: str) -> str:
        """Return what identifies the content: the name does."""
        return f"{self.fsid}/{self._strip_protocol(path)}"

    # --- reading ---------------------------------------------------------------------------

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        name = self._strip_protocol(path)
        if mode == "rb":
            return self.client.open(name)
        if mode not in {"wb", "xb"}:
            raise ValueError(f"mode is {mode!r}, expected 'rb', 'wb' or 'xb': files are written once")
        if mode == "xb" and self.exists(name):
            raise FileExistsError(name)
        return _Written(self, name, mode="wb", autocommit=options.get("autocommit", True))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_options: Any) -> bytes:
        """Return a file's bytes from `start` to before `end`; negative ones count from its end."""
        (data,) = self.cat_ranges([path], start, end)
        return bytes(data)

    def cat(
        self,
        path: str | list[str],
        recursive: bool = False,  # noqa: FBT001, FBT002  fsspec's
        on_error: str = "raise",
        **options: Any,
    ) -> Any:
        """Return the bytes of one file, or a dictionary of those of many, fetched together."""
        if isinstance(path, str) and not recursive and not any(one in path for one in _MAGIC):
            name = self._strip_protocol(path)
            if name:
                return self.cat_file(name, **options)
        names = self.expand_path(path, recursive=recursive)
        found: dict[str, Any] = {}
        names = [name for name in names if name]
        for outcome in self.client.get_many(names):
            if outcome.error is None:
                found[outcome.name] = outcome.data
            elif on_error == "raise":
                raise outcome.error
            elif on_error == "return":
                found[outcome.name] = outcome.error
        return found

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "raise",
        **_options: Any,
    ) -> list[Any]:
        """Return a range of each path, all fetched together."""
        del max_gap
        names = [self._strip_protocol(one) for one in paths]
        first = starts if isinstance(starts, list) else [starts] * len(names)
        last = ends if isinstance(ends, list) else [ends] * len(names)
        sizes: Mapping[str, int] = {}
        if any(
            end is not None and (end < 0 or (start or 0) < 0) for start, end in zip(first, last, strict=True)
        ):
            sizes = {
                one.name: one.file.size_bytes
                for one in self.client.stat_many(set(names))
                if one.file is not None
            }
        results: list[Any] = [b""] * len(names)
        asked: list[GetItem] = []
        for at, (name, start, end) in enumerate(zip(names, first, last, strict=True)):
            item = _item(at, name, start or 0, end, sizes.get(name))
            if item is not None:
                asked.append(item)
        for outcome in self.client.get_many(asked):
            if isinstance(outcome.error, RangeNotSatisfiable):
                # Behind the end there is nothing, as in a slice.
                continue
            if outcome.error is not None and on_error == "raise":
                raise outcome.error
            results[outcome.key] = outcome.data if outcome.error is None else outcome.error
        return results

    def get_file(self, rpath: str, lpath: Any, **_options: Any) -> None:
        """Write a file's bytes to a local path, which shows them whole or not at all."""
        if self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)  # noqa: PTH103  any path-like
            return
        if hasattr(lpath, "write"):
            self.client.get_to(self._strip_protocol(rpath), lpath)
            return
        os.makedirs(os.path.dirname(lpath) or ".", exist_ok=True)  # noqa: PTH103, PTH120  any path-like
        self.client.get_to(self._strip_protocol(rpath), lpath)

    # --- writing ---------------------------------------------------------------------------

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_options: Any) -> None:
        """Store bytes under a reserved name.

        Raises:
            FileExistsError: the name holds other content, or any with `mode="create"`.
        """
        name = self._strip_protocol(path)
        if self.client.put(value, name=name).already_existed and mode == "create":
            raise FileExistsError(name)

    def pipe(self, path: Any, value: bytes | None = None, **options: Any) -> None:
        """Store bytes under reserved names, all sent together."""
        if isinstance(path, dict):
            items = [PutItem(data, name=self._strip_protocol(one)) for one, data in path.items()]
            for outcome in self.client.put_many(items):
                outcome.unwrap()
        else:
            self.pipe_file(path, value or b"", **options)

    def put_file(self, lpath: str, rpath: str, **_options: Any) -> None:
        """Store a local file under a reserved name."""
        if not os.path.isdir(lpath):  # noqa: PTH112  any path-like
            with open(lpath, "rb") as file:  # noqa: PTH123  any path-like
                self.client.put(file, name=self._strip_protocol(rpath))

    def rm_file(self, path: str) -> None:
        """Delete a file; its name is never used again."""
        self.client.delete(self._strip_protocol(path))

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:  # noqa: FBT001, FBT002
        """Delete files; never the whole store at once."""
        del recursive, maxdepth
        names = [self._strip_protocol(one) for one in ([path] if isinstance(path, str) else path)]
        if not all(names):
            raise PermissionError("that would delete the whole store: name its files")
        for outcome in self.client.delete_many(names):
            outcome.unwrap()


_CLIENT_OPTIONS: Final = frozenset(
    {"allow_insecure_token", "channels", "follow", "metadata", "retry", "timeout_s", "tls", "token", "verify"}
)


class _Listed(AbstractFileSystem):
    """The files with one beginning, for fsspec's own matching."""

    cachable = False

    def __init__(self, store: DesFileSystem, prefix: str) -> None:
        super().__init__()
        self._store = store
        self._prefix = prefix

    def find(self, _path: str, **_options: Any) -> Any:
        return self._store.find("", prefix=self._prefix, detail=True)

    def exists(self, path: str, **_options: Any) -> bool:
        return self._store.exists(path)

    def info(self, path: str, **_options: Any) -> Any:
        return self._store.info(path)


class _Written(AbstractBufferedFile):
    """A file being written; the store gets it whole when it is closed, or nothing."""

    def __init__(self, fs: DesFileSystem, path: str, **options: Any) -> None:
        super().__init__(fs, path, **options)
        self._spool: Any = None

    def _initiate_upload(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115  closed by commit or discard

    def _upload_chunk(self, final: bool = False) -> bool:  # noqa: FBT001, FBT002  fsspec's
        self._spool.write(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Store it."""
        with self._spool as spool:
            spool.seek(0)
            self.fs.client.put(spool, name=self.path)

    def discard(self) -> None:
        """Forget it."""
        if self._spool is not None:
            self._spool.close()


def _item(at: int, name: str, start: int, end: int | None, size: int | None) -> GetItem | None:
    """Build the request of one range; None when it is empty."""
    if end is None:
        return GetItem(name, offset=start, key=at)
    if size is not None:
        start = max(0, size + start) if start < 0 else min(start, size)
        end = max(0, size + end) if end < 0 else min(end, size)
    elif end < 0 or start < 0:
        # No such file: the server says so.
        return GetItem(name, key=at)
    return GetItem(name, offset=start, limit=end - start, key=at) if end > start else None


def _entry(file: FileInfo) -> dict[str, Any]:
    return {
        "name": file.name,
        "size": file.size_bytes,
        "type": "file",
        "created": file.create_time,
        "mtime": None if file.create_time is None else file.create_time.timestamp(),
        "content_type": file.content_type,
        "crc32c": file.crc32c,
        "state": str(file.state),
        "shard_id": file.shard_id,
    }
