"""What a container's row says of its files together, known before the first of them is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from des.ingest.values import OpenFile
from des.naming import created_ms, parse_name
from des.naming.name import day_start_ms


@dataclass(frozen=True, slots=True)
class DescribedFiles:
    """Names, times and bytes of the files of one day."""

    name_first: str
    """The lowest of all names."""
    name_last: str
    ms_first: int
    """When the first of the names was made, in UTC milliseconds since 1970."""
    ms_last: int
    data_bytes: int
    """Bytes of all files, those outside the container included."""
    contained_bytes: int
    """The same without those outside."""

    @classmethod
    def of(cls, files: Sequence[OpenFile], wrap_bits: int) -> Self:
        """Describe at least one file, in a fraction of a microsecond each.

        Raises:
            InvalidNameError: the day has no such time; the names were made with other `wrap_bits`.
        """
        names = [file.name for file in files]
        start = day_start_ms(names[0][-26:-18])
        # As `created_ms_of`, for all at once.
        counters = np.frombuffer(bytes.fromhex("".join([name[-16:-8] for name in names])), ">u4")
        offsets = (counters.astype(np.int64) - start) & ((1 << wrap_bits) - 1)
        # Counted from the start of the day, so that a time behind its end is the last one.
        ms_last = created_ms(parse_name(names[int(offsets.argmax())]), wrap_bits)
        return cls(
            name_first=min(names),
            name_last=max(names),
            ms_first=start + int(offsets.min()),
            ms_last=ms_last,
            data_bytes=sum([file.size for file in files]),
            contained_bytes=sum([file.size for file in files if file.offset or file.blocks]),
        )
