"""Names: their text, the shard each belongs to, and the generator that never gives one twice."""

from des.naming.generator import ClockBehindError, GeneratorClosedError, SnowflakeNameGenerator
from des.naming.name import (
    InvalidNameError,
    ParsedName,
    created_ms,
    created_ms_of,
    day_of,
    encode_name,
    parse_name,
)
from des.naming.sharding import consistent_hash

__all__ = [
    "ClockBehindError",
    "GeneratorClosedError",
    "InvalidNameError",
    "ParsedName",
    "SnowflakeNameGenerator",
    "consistent_hash",
    "created_ms",
    "created_ms_of",
    "day_of",
    "encode_name",
    "parse_name",
]
