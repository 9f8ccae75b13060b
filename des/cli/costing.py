"""What small files cost in an object store: one object each, or in containers (docs/cost.md)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

GB: Final = 1 << 30
"""What object stores bill as a gigabyte."""
DAYS_PER_MONTH: Final = 30.4
PART_BYTES: Final = 8 << 20
"""A container is written in parts of this size (`s3.part_bytes`), each a billed request."""
UPLOAD_REQUESTS: Final = 2
"""Begin and end an upload in parts; the HEAD after it is counted among the reads."""
LOG_OBJECT_BYTES: Final = 8 << 20
"""Of an object of files shipped before any seal (`stored.object_bytes`)."""
OVERHEAD_BYTES: Final = 179
"""Of a file in a container of the layout `framed`: index, frame, page (docs/size.md)."""

NotNegative = Annotated[float, Field(ge=0)]


class PriceError(ValueError):
    """Prices that cannot be read; the message says where."""


class Tier(BaseModel):
    """One step of a price per gigabyte and month."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    up_to_gb: NotNegative | None = None
    """Where the step ends; None for the last."""
    usd: NotNegative
    """For each gigabyte in it."""


class Prices(BaseModel):
    """What one storage class costs, in US dollars."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    storage: Annotated[tuple[Tier, ...], Field(min_length=1)]
    put_per_1000: NotNegative
    get_per_1000: NotNegative
    retrieval_per_gb: NotNegative = 0
    minimum_object_bytes: Annotated[int, Field(ge=0)] = 0
    """A smaller object is billed as one of this size."""
    source: str = ""
    """Where the figures are from, and when they were true."""

    @model_validator(mode="after")
    def _steps_go_up(self) -> Self:
        ends = [tier.up_to_gb for tier in self.storage]
        known = [end for end in ends[:-1] if end is not None]
        if ends[-1] is not None or len(known) != len(ends) - 1 or known != sorted(set(known)):
            raise ValueError("expected steps of storage with growing up_to_gb, and none in the last")
        return self

    def storage_month(self, gigabytes: float) -> float:
        """Return what so many gigabytes cost in a month."""
        total = begun = 0.0
        for tier in self.storage:
            end = gigabytes if tier.up_to_gb is None else min(gigabytes, tier.up_to_gb)
            total += max(0.0, end - begun) * tier.usd
            begun = end
        return total


_AWS: Final = "list prices of Amazon S3 in us-east-1, looked up in November 2026 (docs/cost.md says where)"
_AWS_IN_PART: Final = f"{_AWS}; its two prices of requests are not confirmed, check them"
CLASSES: Final[dict[str, Prices]] = {
    "standard": Prices(
        storage=(
            Tier(up_to_gb=50 * 1024, usd=0.023),
            Tier(up_to_gb=500 * 1024, usd=0.022),
            Tier(usd=0.021),
        ),
        put_per_1000=0.005,
        get_per_1000=0.0004,
        source=_AWS,
    ),
    "standard-ia": Prices(
        storage=(Tier(usd=0.0125),),
        put_per_1000=0.01,
        get_per_1000=0.001,
        retrieval_per_gb=0.01,
        minimum_object_bytes=128 << 10,
        source=_AWS,
    ),
    "glacier-ir": Prices(
        storage=(Tier(usd=0.004),),
        put_per_1000=0.02,
        get_per_1000=0.01,
        retrieval_per_gb=0.03,
        minimum_object_bytes=128 << 10,
        source=_AWS_IN_PART,
    ),
}
"""Storage classes of Amazon S3 from which a file is read at once."""


def read_prices(path: Path) -> Prices:
    """Read prices from a YAML file.

    Raises:
        PriceError: the file cannot be read, or holds something else.
    """
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PriceError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PriceError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise PriceError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be kept and how it is used."""

    files: int
    size_bytes: float
    """Mean size of a file."""
    reads_per_day: float = 0
    container_bytes: int = 256 << 20
    ratio: float = 1.0
    """Stored bytes of a file to its own, from compression: 0.5 for half."""
    cold: float = 0.1
    """Share of reads whose index page is in no cache, which costs a second request."""
    stored: bool = False
    """Whether files are shipped to the object store before a seal (durability `stored`)."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.files < 1 or self.size_bytes < 0 or self.reads_per_day < 0:
            raise ValueError("expected at least one file, and no negative size or reads")
        if self.container_bytes < 1 or self.ratio <= 0 or not 0 <= self.cold <= 1:
            raise ValueError(
                "expected a positive container size and ratio, and a share of cold reads up to 1"
            )


@dataclass(frozen=True, slots=True)
class Bill:
    """Requests, bytes and money of one way to keep the files."""

    objects: int
    puts: int
    """Once, to write everything."""
    gets_month: float
    stored_gb: float
    billed_gb: float
    """With the class's minimum for each object."""
    write_usd: float
    """Once."""
    storage_usd_month: float
    reads_usd_month: float

    @property
    def month_usd(self) -> float:
        """What each month costs after the writing."""
        return self.storage_usd_month + self.reads_usd_month

    def first_year_usd(self) -> float:
        """Return the writing and twelve months of everything."""
        return self.write_usd + 12 * self.month_usd

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "month_usd": self.month_usd,
            "first_year_usd": self.first_year_usd(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same files both ways."""

    load: Load
    prices: Prices = field(repr=False)
    plain: Bill
    """One object per file."""
    des: Bill
    """In containers."""


def compare(load: Load, prices: Prices) -> Comparison:
    """Work out both bills; the formulas stand in docs/cost.md."""
    reads = load.reads_per_day * DAYS_PER_MONTH
    plain = _bill(
        prices,
        objects=load.files,
        puts=load.files,
        object_bytes=load.size_bytes,
        gets=reads,
        read_bytes=load.size_bytes,
        reads=reads,
    )
    in_container = load.size_bytes * load.ratio + OVERHEAD_BYTES
    total = load.files * in_container
    containers = _ceil(total, load.container_bytes)
    object_bytes = total / containers
    parts = _ceil(object_bytes, PART_BYTES)
    puts = containers * (parts + UPLOAD_REQUESTS if parts > 1 else 1)
    if load.stored:
        puts += _ceil(total, LOG_OBJECT_BYTES)
    des = _bill(
        prices,
        objects=containers,
        puts=puts,
        object_bytes=object_bytes,
        gets=reads * (1 + load.cold),
        read_bytes=in_container + load.cold * (8 << 10),
        reads=reads,
    )
    return Comparison(load, prices, plain, des)


def _bill(
    prices: Prices,
    *,
    objects: int,
    puts: int,
    object_bytes: float,
    gets: float,
    read_bytes: float,
    reads: float,
) -> Bill:
    billed_gb = objects * max(object_bytes, prices.minimum_object_bytes) / GB
    return Bill(
        objects=objects,
        puts=puts,
        gets_month=gets,
        stored_gb=objects * object_bytes / GB,
        billed_gb=billed_gb,
        write_usd=puts / 1000 * prices.put_per_1000,
        storage_usd_month=prices.storage_month(billed_gb),
        reads_usd_month=gets / 1000 * prices.get_per_1000 + reads * read_bytes / GB * prices.retrieval_per_gb,
    )


def _ceil(amount: float, step: int) -> int:
    return max(1, -int(-amount // step))
