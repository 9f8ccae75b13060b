"""CRC32C (Castagnoli), typed."""

from collections.abc import Callable
from typing import Final

import google_crc32c

crc32c: Final[Callable[[bytes], int]] = google_crc32c.value
"""Return the checksum of some bytes."""

extend: Final[Callable[[int, bytes], int]] = google_crc32c.extend
"""Return the checksum of what the first one covers, followed by some bytes."""
