"""What tests of puts put, and what of it reached the double."""

import io
import os

MIB = 1 << 20
BIG = bytes(range(256)) * (10 * 1024) + b"tail"  # 2.5 MiB and a bit


def puts(double):
    return [one for one in double.requests if type(one).__name__ == "PutFileRequest"]


def content(double, result):
    return double.files[result.file.name].content


class Unseekable(io.RawIOBase):
    """A pipe, in effect."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self._data.read(min(size, 70_000) if size > 0 else size)


class Pathish(os.PathLike):
    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return self._path


def at_position(data):
    file = io.BytesIO(b"skipped" + data)
    file.seek(7)
    return file


def written(path, data):
    path.write_bytes(data)
    return path


SOURCES = {
    "bytes": lambda path, data: data,
    "bytearray": lambda path, data: bytearray(data),
    "memoryview": lambda path, data: memoryview(data),
    "strided memoryview": lambda path, data: memoryview(data[::-1])[::-1],
    "path": written,
    "path-like": lambda path, data: Pathish(str(written(path, data))),
    "file": lambda path, data: written(path, data).open("rb"),
    "file from its position": lambda path, data: at_position(data),
    "unseekable file": lambda path, data: Unseekable(data),
    "generator": lambda path, data: (data[at : at + 10_000] for at in range(0, len(data), 10_000)),
    "one piece": lambda path, data: iter([data]),
    "list": lambda path, data: [data[:1], b"", data[1:]],
    "pieces of every type": lambda path, data: iter([bytearray(data[:3]), memoryview(data[3:])]),
}


KINDS = list(SOURCES)
