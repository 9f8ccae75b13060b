"""Headers of many frames at once (docs/format.md, section 5), as `encode_frame_header` makes each."""

from collections.abc import Sequence
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from des.format.frame import FRAME_HEADER_SIZE, MAGIC
from des.format.name_key import KEY_START

_KEY_SIZE: Final = 6
_HEADER_TYPE: Final = np.dtype(
    [
        ("magic", "S4"),
        ("key", "V6"),
        ("codec", "u1"),
        ("flags", "u1"),
        ("stored_length", "<u4"),
        ("raw_length", "<u4"),
        ("name_length", "<u2"),
        ("meta_length", "<u2"),
        ("data_crc32c", "<u4"),
        ("frame_crc32c", "<u4"),
    ]
)
assert _HEADER_TYPE.itemsize == FRAME_HEADER_SIZE
_UNSEALED_SIZE: Final = FRAME_HEADER_SIZE - 4


def encode_frame_headers(
    names: Sequence[bytes],
    documents: Sequence[bytes],
    *,
    digests: npt.NDArray[np.uint8],
    codecs: Sequence[int],
    flags: Sequence[int],
    stored_lengths: npt.NDArray[Any],
    raw_lengths: npt.NDArray[Any],
    data_crc32c: Sequence[int],
) -> bytes:
    """Return 32 bytes for each frame, in order.

    `digests` has SHA-256 of each name, one row of 32 bytes each; `raw_lengths` is 0 for external files.
    """
    count = len(names)
    header = np.zeros(count, _HEADER_TYPE)
    header["magic"] = MAGIC
    key = np.ascontiguousarray(digests[:, KEY_START : KEY_START + _KEY_SIZE])
    header["key"] = key.view(_HEADER_TYPE["key"]).reshape(count)
    header["codec"] = codecs
    header["flags"] = flags
    header["stored_length"] = stored_lengths
    header["raw_length"] = raw_lengths
    header["name_length"] = np.fromiter(map(len, names), np.int64, count)
    header["meta_length"] = np.fromiter(map(len, documents), np.int64, count)
    header["data_crc32c"] = data_crc32c
    unsealed = header.tobytes()
    value = google_crc32c.value
    header["frame_crc32c"] = [
        value(unsealed[start : start + _UNSEALED_SIZE] + name + document)
        for start, name, document in zip(
            range(0, len(unsealed), FRAME_HEADER_SIZE), names, documents, strict=True
        )
    ]
    return header.tobytes()
