"""How a serving process handles memory: few walks of the collector, few pages given back and taken anew."""

import contextlib
import ctypes
import gc
from typing import Final

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Objects made before the youngest are looked at, and how many such looks before the older ones are.

A batch makes some ten thousand objects that all survive: with the usual threshold of 700 the collector
takes a third of the time of a write.
"""
KEPT_BYTES: Final = 32 << 20
"""Free memory that is not given back, and the size from which blocks are mapped for themselves.

Batches read spans of 1 and 2 MiB and free them at once. By default the C library then returns their pages,
and the next span has the kernel fill each of them with zeros first: half the price of a batch of open files.
"""

# mallopt(3), of the GNU C library.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def settle() -> None:
    """Prepare this process for serving; what is loaded now stays loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with contextlib.suppress(OSError, AttributeError):  # another C library keeps its own ways
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
