"""DATA of a container while it grows, and where its files and their metadata will stand."""

from collections.abc import Iterable
from typing import Final

import google_crc32c

from des.core.contents import Contents
from des.core.sink import Sink
from des.core.waiting_files import (
    WAITING_BYTES_MAX,
    WAITING_FILES_MAX,
    WaitingFile,
    lay_out_framed,
    lay_out_v1,
    lay_out_written,
)
from des.format.frame import FRAME_HEADER_SIZE, encode_frame_header, frame_key_of
from des.format.name_key import bound_seed, name_digest


class DataSection:
    """Takes files one by one and writes many at once. After an error it is worth nothing."""

    def __init__(self, sink: Sink, contents: Contents, *, framed: bool) -> None:
        """Start where the sink stands; what is laid out is noted in `contents`."""
        self.start: Final = sink.size
        self.stop = self.start
        """Where the next file will start, those that wait included."""
        self._sink = sink
        self._contents = contents
        self._framed = framed
        self._meta_length = 0
        """Bytes of META, with those of files that wait."""
        self._waiting: list[WaitingFile] = []
        self._waiting_size = 0
        """Bytes of theirs that will be stored."""

    def take(self, file: WaitingFile) -> tuple[int, int]:
        """Let a file wait with others, or write them all; return where its bytes and its metadata stand.

        In v1 metadata is counted from META's start.
        """
        name, stored, document, *_ = file
        stored_length = len(stored)
        if self._framed:
            data_offset = self.stop + FRAME_HEADER_SIZE
            meta_offset = data_offset + stored_length + len(name)
            self.stop = meta_offset + len(document)
        else:
            data_offset, meta_offset = self.stop, self._meta_length
            self.stop += stored_length
            self._meta_length += len(document)
        self._waiting.append(file)
        self._waiting_size += stored_length
        if self._waiting_size >= WAITING_BYTES_MAX or len(self._waiting) >= WAITING_FILES_MAX:
            self.flush()
        return data_offset, meta_offset

    def flush(self) -> None:
        """Lay out the files that wait, and hand them to the sink."""
        files, self._waiting, self._waiting_size = self._waiting, [], 0
        if not files:
            return
        start = self._sink.size
        laid_out = (
            lay_out_framed(files, start)
            if self._framed
            else lay_out_v1(files, start, self._contents.meta_length)
        )
        self._sink.write(*laid_out.parts)
        self._contents.add(laid_out)

    def write_stream(
        self, name: bytes, document: bytes, size: int, crc32c: int, chunks: Iterable[bytes]
    ) -> tuple[int, int]:
        """Write a raw file as it comes; return as `take`.

        Args:
            name: as it stands in the container.
            document: the metadata.
            size: bytes that will come; the caller sees to it.
            crc32c: theirs; needed where the file is framed.
            chunks: they themselves.
        """
        self.flush()
        digest = name_digest(name)
        if self._framed:
            header = encode_frame_header(
                name,
                document,
                flags=0,
                stored_length=size,
                data_crc32c=crc32c,
                key=frame_key_of(digest),
            )
            self._sink.write(header)
        proof = bound_seed(digest)
        for data in chunks:
            proof = google_crc32c.extend(proof, data)
            self._sink.write(data)
        if self._framed:
            self._sink.write(name, document)
        meta_length = None if self._framed else self._meta_length
        laid_out = lay_out_written(name, document, digest, size, self.stop, meta_length, proof)
        self._contents.add(laid_out)
        self.stop = self._sink.size
        self._meta_length += len(laid_out.meta)
        place = laid_out.places[0]
        return int(place["data_offset"]), int(place["meta_offset"])

    def drop(self) -> None:
        """Forget the files that wait."""
        self._waiting.clear()
