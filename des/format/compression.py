"""Codecs: how the stored bytes of a frame become the file's (docs/format.md, section 5)."""

import threading
from typing import Final

from zstandard import (
    DICT_TYPE_FULLDICT,
    ZstdCompressionDict,
    ZstdCompressor,
    ZstdDecompressor,
    ZstdError,
    get_frame_parameters,
)

from des.format.errors import CorruptContainerError

CODEC_RAW: Final = 0
CODEC_ZSTD: Final = 1
CODEC_DICTIONARY_MIN: Final = 2
CODEC_MAX: Final = 15
"""Codecs 2 to 15 are zstd with the dictionary in the slot of that number; the last fits 4 bits."""

COMPRESSED_RAW_LENGTH_MAX: Final = 1 << 22
"""Bytes of a file stored compressed: a reader holds it whole, for any range of it."""
DICTIONARY_LENGTH_MAX: Final = 1 << 17
"""Bytes of a dictionary a reader accepts."""
SHORT_LENGTH: Final = 1 << 14
"""Bytes of a file up to which the level for short files is used."""
LEVEL: Final = 9
"""zstd level of the writer: 46 MB/s of sources here; level 12 takes four times as long for 2 % less."""
SHORT_LEVEL: Final = 12
"""... and for short files, of which it makes JSON 5 % smaller for half as much time again."""


class BadCompressionError(CorruptContainerError):
    """Compressed bytes, or the dictionary they need, are not what a writer makes."""


class Dictionary:
    """A trained dictionary, checked and ready. Safe for threads."""

    def __init__(self, data: bytes) -> None:
        """Digest a dictionary as it stands in a container.

        Raises:
            BadCompressionError: it is no zstd dictionary.
        """
        self.data: Final = data
        self._digested: Final = ZstdCompressionDict(data, dict_type=DICT_TYPE_FULLDICT)
        self._threads: Final = threading.local()
        try:
            self._threads.decompressor = ZstdDecompressor(dict_data=self._digested)
        except ZstdError as error:
            raise BadCompressionError(f"dictionary of {len(data)} bytes is no zstd one: {error}") from error

    @property
    def memory_bytes(self) -> int:
        """Bytes this object keeps, about: the dictionary twice, as given and digested."""
        return 2 * len(self.data) + (1 << 15)

    def decompressor(self) -> ZstdDecompressor:
        """Return this thread's decompressor: making one takes longer than using it."""
        try:
            made: ZstdDecompressor = self._threads.decompressor
        except AttributeError:
            made = self._threads.decompressor = ZstdDecompressor(dict_data=self._digested)
        return made

    def compressor(self, level: int = LEVEL) -> ZstdCompressor:
        """Return a compressor for one thread."""
        return _compressor(self._digested, level)


class _PlainDecompressors(threading.local):
    """One decompressor without a dictionary for each thread."""

    def __init__(self) -> None:
        self.decompressor = ZstdDecompressor()


_PLAIN: Final = _PlainDecompressors()


def plain_compressor(level: int = LEVEL) -> ZstdCompressor:
    """Return a compressor without a dictionary, for one thread."""
    return _compressor(None, level)


def decompress(stored: bytes, *, raw_length: int, dictionary: Dictionary | None) -> bytes:
    """Return the `raw_length` bytes that `stored`, exactly one zstd frame, stands for.

    The frame's own idea of its length is compared first: no more than `raw_length` is ever allocated.

    Raises:
        BadCompressionError: another length, another dictionary's frame, or no sound frame.
    """
    if not len(stored) < raw_length <= COMPRESSED_RAW_LENGTH_MAX:
        raise BadCompressionError(
            f"{len(stored)} compressed bytes stand for {raw_length}, "
            f"expected more, and at most {COMPRESSED_RAW_LENGTH_MAX}"
        )
    decompressor = _PLAIN.decompressor if dictionary is None else dictionary.decompressor()
    try:
        parameters = get_frame_parameters(stored)
        if parameters.content_size != raw_length:
            raise BadCompressionError(
                f"zstd frame says {parameters.content_size} bytes, expected {raw_length}"
            )
        if parameters.window_size > COMPRESSED_RAW_LENGTH_MAX:
            raise BadCompressionError(
                f"zstd frame asks for a window of {parameters.window_size} bytes, "
                f"at most {COMPRESSED_RAW_LENGTH_MAX} are allowed"
            )
        data = decompressor.decompress(stored, max_output_size=raw_length, allow_extra_data=False)
    except ZstdError as error:
        raise BadCompressionError(f"zstd frame is damaged: {error}") from error
    if len(data) != raw_length:
        raise BadCompressionError(f"zstd frame gave {len(data)} bytes, expected {raw_length}")
    return data


def _compressor(digested: ZstdCompressionDict | None, level: int) -> ZstdCompressor:
    # The frame of the container has checksum and dictionary; zstd's own would be the same again.
    return ZstdCompressor(
        level=level,
        dict_data=digested,
        write_checksum=False,
        write_content_size=True,
        write_dict_id=False,
        threads=0,
    )
