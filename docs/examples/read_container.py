"""Reads DES containers with the standard library alone: a second reader, made from docs/format.md.

It reads both layouts through INDEX, as any reader of DES v1 does, and does not know EXT. Checksums are
computed in Python, so it is slow; it is here to show that the page is enough.

    python read_container.py CONTAINER            list names
    python read_container.py CONTAINER NAME       write a file to standard output
    python read_container.py CONTAINER --verify   read everything
"""

import base64
import hashlib
import json
import struct
import sys
from pathlib import Path

HEADER = b"DESHEAD1" + bytes([1]) + bytes(7)
FOOTER = struct.Struct("<8sB7s7Q")
FRAME = struct.Struct("<4s6sBBIIHHII")
ENTRY = struct.Struct("<QQQQI")
EXTERNAL = 1
KNOWN_FLAGS = 15


class CorruptError(Exception):
    """The bytes are not those of a sound container."""


def demand(condition, message):
    """Refuse what breaks the format."""
    if not condition:
        raise CorruptError(message)


def _crc_table():
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(data):
    """Return the Castagnoli CRC of `data`."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


class Container:
    """One container in a local file, its INDEX in memory."""

    def __init__(self, path):
        self.file = Path(path).open("rb")
        try:
            self._open()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def read(self, start, length):
        """Return exactly `length` bytes at `start`."""
        self.file.seek(start)
        data = self.file.read(length)
        demand(len(data) == length, f"container ends before {start + length}")
        return data

    def _open(self):
        size = self.file.seek(0, 2)
        demand(size >= len(HEADER) + FOOTER.size, f"{size} bytes are no container")
        demand(self.read(0, len(HEADER)) == HEADER, "wrong header")
        magic, version, reserved, *places = FOOTER.unpack(self.read(size - FOOTER.size, FOOTER.size))
        demand((magic, version, reserved) == (b"DESFOOT1", 1, bytes(7)), "wrong footer")
        data_start, data_length, meta_start, meta_length, index_start, index_length, count = places
        self.data = (data_start, data_start + data_length)
        self.meta = (meta_start, meta_start + meta_length)
        edges = [len(HEADER), *self.data, *self.meta, index_start, index_start + index_length]
        demand(edges == sorted(edges) and edges[-1] <= size - FOOTER.size, "sections out of place")
        demand(count * (2 + ENTRY.size) <= index_length, "INDEX too short")
        self.framed = count > 0 and meta_length == 0
        self.entries = self._parse_index(self.read(index_start, index_length), count)

    def _parse_index(self, index, count):
        entries, place = {}, 0
        for _ in range(count):
            demand(place + 2 <= len(index), "INDEX ends early")
            (length,) = struct.unpack_from("<H", index, place)
            stop = place + 2 + length
            demand(length and stop + ENTRY.size <= len(index), "INDEX ends early")
            try:
                name = index[place + 2 : stop].decode()
            except UnicodeDecodeError:
                raise CorruptError("a name is not UTF-8") from None
            demand(name not in entries, f"{name!r} stands twice")
            entries[name] = ENTRY.unpack_from(index, stop)
            self._check_entry(name, length, entries[name])
            place = stop + ENTRY.size
        demand(place == len(index), "INDEX goes on behind its last entry")
        runs = sorted(
            (entry[0], entry[1]) for entry in entries.values() if entry[1] and not entry[4] & EXTERNAL
        )
        for before, after in zip(runs, runs[1:], strict=False):
            same = before == after and not self.framed
            demand(same or sum(before) <= after[0], f"files overlap at {after[0]}")
        return entries

    def _check_entry(self, name, name_length, entry):
        offset, length, meta_offset, meta_length, flags = entry
        demand(not flags & ~KNOWN_FLAGS, f"{name!r} has unknown flags")
        low, high = self.data if self.framed else self.meta
        demand(meta_length and low <= meta_offset <= meta_offset + meta_length <= high, f"{name!r}: metadata")
        if flags & EXTERNAL:
            demand(offset == 0, f"{name!r} is external and has a place")
        else:
            demand(self.data[0] <= offset <= offset + length <= self.data[1], f"{name!r} is outside DATA")
        if self.framed and not flags & EXTERNAL:
            demand(meta_offset == offset + length + name_length, f"{name!r} does not lie in its frame")
            demand(offset - FRAME.size >= self.data[0], f"{name!r} has no room for its frame")

    def names(self):
        """Return the names in the order of writing."""
        return list(self.entries)

    def metadata(self, name):
        """Return a file's metadata, `_des` and all, proven where the container has frames."""
        return self._frame(name)[1] if self.framed else self._bare_metadata(name)

    def get(self, name):
        """Return a file's bytes, proven where the container has a checksum of them."""
        offset, length, _, _, flags = self.entries[name]
        demand(not flags & EXTERNAL, f"{name!r} is an object of its own")
        if flags:
            raise NotImplementedError(f"{name!r} is compressed, encrypted or deleted")
        metadata = self.metadata(name)
        data = self.read(offset, length)
        known = metadata.get("_des", {}).get("crc32c")
        if self.framed:
            known = f"{self._frame(name)[0]:08x}"
        demand(known is None or crc32c(data) == int(known, 16), f"bytes of {name!r} are damaged")
        self._check_blocks(name, data, metadata.get("_des", {}))
        return data

    def _frame(self, name):
        """Prove a file's frame; return the checksum of its bytes and its metadata."""
        _, length, meta_offset, meta_length, flags = self.entries[name]
        encoded = name.encode()
        stored = 0 if flags & EXTERNAL else length
        start = meta_offset - len(encoded) - stored - FRAME.size
        demand(start >= self.data[0], f"{name!r} has no room for its frame")
        header = self.read(start, FRAME.size)
        tail = self.read(meta_offset - len(encoded), len(encoded) + meta_length)
        magic, key, codec, found_flags, *lengths, data_crc, frame_crc = FRAME.unpack(header)
        demand(magic == b"DXF1" and crc32c(header[:28] + tail) == frame_crc, f"frame of {name!r} is damaged")
        demand(
            key == hashlib.sha256(encoded).digest()[8:14]
            and tail.startswith(encoded)
            and found_flags == flags
            and (lengths[0], lengths[2], lengths[3]) == (stored, len(encoded), meta_length),
            f"frame is not that of {name!r}",
        )
        if not flags & 2:
            demand(codec == 0 and lengths[1] == stored, f"frame of {name!r} contradicts INDEX")
        return data_crc, self._document(name, tail[len(encoded) :])

    def _bare_metadata(self, name):
        _, _, meta_offset, meta_length, _ = self.entries[name]
        return self._document(name, self.read(meta_offset, meta_length))

    def _document(self, name, data):
        try:
            document = json.loads(data.decode())
        except (ValueError, RecursionError):
            raise CorruptError(f"metadata of {name!r} is not JSON") from None
        demand(isinstance(document, dict), f"metadata of {name!r} is no object")
        demand(document.get("size") == self.entries[name][1], f"metadata of {name!r} has another size")
        return document

    @staticmethod
    def _check_blocks(name, data, system):
        if "block_size" not in system:
            return
        size = system["block_size"]
        packed = base64.b64decode(system["block_crc32c"])
        blocks = [data[start : start + size] for start in range(0, len(data), size)]
        found = struct.pack(f"<{len(blocks)}I", *map(crc32c, blocks))
        demand(found == packed, f"a block of {name!r} is damaged")


def main(arguments):
    """Do what the command line says; return the exit code."""
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    with Container(arguments[0]) as container:
        if len(arguments) == 1:
            print("\n".join(container.names()))
        elif arguments[1] != "--verify":
            if arguments[1] not in container.entries:
                print(f"no file {arguments[1]!r}", file=sys.stderr)
                return 1
            sys.stdout.buffer.write(container.get(arguments[1]))
        else:
            inside = [name for name, entry in container.entries.items() if not entry[4] & EXTERNAL]
            for name in inside:
                container.get(name)
            print(f"{len(inside)} files are sound, {len(container.entries) - len(inside)} lie outside")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CorruptError as error:
        sys.exit(f"corrupt: {error}")
