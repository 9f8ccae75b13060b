"""Eleven operations of S3, seventeen faults, each once and always: what is heard, what the store then holds.

The real backend talks through the fault proxy to a real S3 server; the cells run at once, each under its own
keys. Beside the table, this holds in every cell: a caller who heard "ok" of a write finds it whole; whatever
was heard, the store holds the whole object or none; "missing" is heard only of what is missing; no error is
anything but a deliberate one; and what unfinished uploads left is found and dropped.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import pytest

from des.config import S3Settings
from des.errors import DesError
from des.storage import S3StorageBackend
from des.storage.metered import outcome_of
from des.storage.object_store import NoSuchObjectError
from des.testing.fault_proxy import Fault, S3FaultProxy
from des.testing.object_store_suite import BytesBody
from des.testing.s3_requests import Operation
from des.testing.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, temporary_versitygw

PART: Final = 5 << 20
SMALL: Final = bytes(range(256)) * 4
LONG: Final = bytes(PART) + b"the last part"
AT_ONCE: Final = 64
AT_ONCE_AGAIN: Final = 4
RUNS_MAX: Final = 5
NEVER_MET: Final = "the fault met no request"

# A cell is "once/always": what the caller hears, and what the store holds when everything held was released.
#   o ok   u unavailable, may be repeated   x other bytes, which only a checksum above can tell
#   W the whole object   N none
# ABORT never fails for its caller: what it could not drop is found later. A flipped byte of an answer without
# body does nothing, nor one of a request without. An upload whose part or completion came damaged is refused.
# An answer whose head was cut lacks what is needed of it, and is none. XML has no checksum: a flipped key is
# listed as it came, and parts sent or put together under a flipped id or etag are refused.
TABLE: Final = """
                     CREATE BEGIN PART  COMPLETE ABORT HEAD  RANGE TAIL  LIST  DELETE COPY
ERROR_500_BEFORE     oW/uN  oW/uN oW/uN oW/uN    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uW  oW/uN
ERROR_500_AFTER      oW/oW  oW/uN oW/uN oW/oW    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uN  oW/uN
ERROR_503_BEFORE     oW/uN  oW/uN oW/uN oW/uN    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uW  oW/uN
ERROR_503_AFTER      oW/oW  oW/uN oW/uN oW/oW    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uN  oW/uN
RESET_BEFORE         oW/uN  oW/uN oW/uN oW/uN    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uW  oW/uN
RESET_AFTER          oW/oW  oW/uN oW/uN oW/oW    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uN  oW/uN
TIMEOUT_BEFORE       oW/uN  oW/uN oW/uN oW/uN    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uW  oW/uN
TIMEOUT_AFTER        oW/oW  oW/uN oW/uN oW/oW    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uN  oW/uN
DRIP                 oW/oW  uN/uN uN/uN oW/oW    oN/oN uW/uW oW/uW oW/uW uW/uW uN/uN  uN/uN
TRUNCATED            oW/oW  oW/uN uN/uN oW/oW    oN/oN uW/uW oW/uW oW/oW oW/uW oN/oN  oW/uN
FLIPPED_SENT         uN/uN  oW/oW uN/uN uN/uN    oN/oN oW/oW oW/oW oW/oW oW/oW oN/oN  oW/oW
FLIPPED_RECEIVED     oW/oW  uN/uN oW/oW oW/oW    oN/oN oW/oW xW/xW xW/xW xW/xW oN/oN  uN/uN
FLIPPED_MARKUP       oW/oW  oW/uN oW/oW oW/oW    oN/oN oW/oW xW/xW xW/xW oW/uW oN/oN  oW/uN
ERROR_IN_200_BEFORE  oW/uN  oW/uN oW/uN oW/uN    oN/oN uW/uW uW/uW uW/uW oW/uW oN/uW  oW/uN
ERROR_IN_200_AFTER   oW/oW  oW/uN oW/uN oW/oW    oN/oN uW/uW uW/uW uW/uW oW/uW oN/uN  oW/uN
HELD                 oW/uW  oW/uN oW/uN oW/uN    oN/oN oW/uW oW/uW oW/uW oW/uW oN/uN  oW/uN
UNCONDITIONAL        oW/oW  oW/oW oW/oW oW/oW    oN/oN oW/oW oW/oW oW/oW oW/oW oN/oN  oW/oW
"""
HEARD: Final = {"o": "ok", "u": "unavailable", "x": "wrong"}
HELD: Final = {"W": "whole", "N": "none"}
WRITES: Final = frozenset(
    {Operation.CREATE, Operation.BEGIN, Operation.PART, Operation.COMPLETE, Operation.COPY}
)
READS: Final = frozenset({Operation.HEAD, Operation.RANGE, Operation.TAIL, Operation.LIST})


@dataclass(frozen=True)
class Cell:
    operation: Operation
    fault: Fault
    always: bool
    run: int = 0
    """A cell that the machine was too slow for is run again, under other keys."""

    @property
    def key(self) -> str:
        again = f"-{self.run}" if self.run else ""
        return f"{self.operation}/{self.fault.name.lower()}-{'always' if self.always else 'once'}{again}"

    @property
    def wanted(self) -> bytes:
        if self.operation is Operation.COPY:
            return bytes(PART)
        return SMALL if self.operation is Operation.CREATE or self.operation not in WRITES else LONG


@dataclass(frozen=True)
class Seen:
    heard: str
    held: str


CELLS: Final = [
    Cell(operation, fault, always)
    for operation in Operation
    if operation is not Operation.OTHER
    for fault in Fault
    for always in (False, True)
]


def expected(cell: Cell) -> tuple[str, str]:
    header, *rows = TABLE.strip("\n").splitlines()
    row = next(row.split() for row in rows if row.split()[0] == cell.fault.name)
    pair = row[1 + header.split().index(cell.operation.name)].split("/")
    heard, held = pair[cell.always]
    return heard, held


async def act(store: S3StorageBackend, cell: Cell, source_etag: str) -> str:
    try:
        return await (upload(store, cell, source_etag) if cell.operation in UPLOADS else call(store, cell))
    except DesError as error:
        return outcome_of(error)


UPLOADS: Final = frozenset(
    {Operation.BEGIN, Operation.PART, Operation.COMPLETE, Operation.ABORT, Operation.COPY}
)


async def call(store: S3StorageBackend, cell: Cell) -> str:
    match cell.operation:
        case Operation.CREATE:
            info = await store.create(cell.key, BytesBody(SMALL), metadata={"a": "b"})
            right = (info.size, info.metadata) == (len(SMALL), {"a": "b"})
        case Operation.HEAD:
            info = await store.head(cell.key)
            right = (info.size, info.metadata) == (len(SMALL), {"a": "b"})
        case Operation.RANGE:
            right = await store.get_range(cell.key, 10, 200) == SMALL[10:200]
        case Operation.TAIL:
            right = (await store.get_tail(cell.key, 100))[1] == SMALL[-100:]
        case Operation.LIST:
            found = [(info.key, info.size) async for info in store.list(cell.key)]
            right = found == [(cell.key, len(SMALL))]
        case _:
            await store.delete(cell.key)
            right = True
    return "ok" if right else "wrong"


async def upload(store: S3StorageBackend, cell: Cell, source_etag: str) -> str:
    made = await store.begin_upload(cell.key, metadata={})
    try:
        if cell.operation is Operation.COPY:
            await made.copy_from("source", 0, PART, etag=source_etag)
        else:
            await made.write(LONG)
        if cell.operation is not Operation.ABORT:
            await made.finish()
        return "ok"
    finally:
        await made.abort()


async def held(store: S3StorageBackend, cell: Cell) -> str:
    try:
        info = await store.head(cell.key)
    except NoSuchObjectError:
        return "none"
    data = await store.get_range(cell.key, 0, info.size, etag=info.etag)
    return "whole" if data == cell.wanted else "other"


async def run_all(settings: S3Settings, *, needs_help: bool) -> dict[Cell, Seen]:
    turns = asyncio.Semaphore(AT_ONCE)
    async with S3FaultProxy(
        settings.endpoint_url, keys=(ACCESS_KEY, SECRET_KEY), verify_checksums=needs_help
    ) as proxy:
        # Three attempts where one is spoilt: a slow machine may spoil another by itself.
        hasty = settings.model_copy(
            update={
                "endpoint_url": proxy.url,
                "attempts": 3,
                "read_timeout_s": 4,
                "deadline_s": 18,
                "upload_bytes_per_s_min": 64 << 20,
                "connections": 64,
                "parts_at_once": 64,
            }
        )
        # boto3 repeats from a quota for each client, which cells that always fail use up.
        stores = {
            key: S3StorageBackend(BUCKET, prefix="matrix", settings=hasty)
            for key in {(cell.operation, cell.always) for cell in CELLS}
        }
        spare = [S3StorageBackend(BUCKET, prefix="matrix", settings=hasty) for _ in range(1, RUNS_MAX)]
        direct = S3StorageBackend(BUCKET, prefix="matrix", settings=settings)
        source = await direct.create("source", BytesBody(bytes(PART)), metadata={})

        async def run(cell: Cell) -> str:
            async with turns:
                if cell.operation in READS or cell.operation is Operation.DELETE:
                    await direct.create(cell.key, BytesBody(SMALL), metadata={"a": "b"})
                rule = proxy.inject(
                    cell.fault,
                    cell.operation,
                    key=f"{BUCKET}/{direct.prefix}{cell.key}",
                    times=None if cell.always else 1,
                )
                heard = await act(
                    spare[cell.run - 1] if cell.run else stores[cell.operation, cell.always],
                    cell,
                    source.etag,
                )
                return heard if rule.hits else NEVER_MET

        async def run_cells(cells: list[Cell]) -> dict[Cell, Seen]:
            heard = await asyncio.gather(*(run(cell) for cell in cells))
            proxy.clear()
            await proxy.release()
            return {
                cell: Seen(words, await held(direct, cell)) for cell, words in zip(cells, heard, strict=True)
            }

        try:
            seen = await run_cells(CELLS)
            every = dict(seen)
            for again in range(1, RUNS_MAX):
                late = [cell for cell in CELLS if is_late(cell, seen[cell])]
                turns = asyncio.Semaphore(AT_ONCE_AGAIN)
                found = await run_cells([replace(cell, run=again) for cell in late])
                every |= found
                seen |= {replace(cell, run=0): what for cell, what in found.items()}
            for cell, what in every.items():
                check_rules(cell, what)
            await direct.abort_stale_uploads("", begun_before_ms=1 << 42)
            assert await direct.abort_stale_uploads("", begun_before_ms=1 << 42) == 0
            return seen
        finally:
            for store in (*stores.values(), *spare, direct):
                await store.close()


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Cell, Seen]]:
    # moto's server is too slow for so many requests at once: its answers would come after the deadlines.
    with temporary_versitygw(tmp_path_factory.mktemp("s3")) as settings:
        yield asyncio.run(run_all(settings, needs_help=False))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.key)
def test_every_cell_ends_as_it_must(matrix: dict[Cell, Seen], cell: Cell) -> None:
    seen = matrix[cell]
    heard, left = expected(cell)
    assert (seen.heard, seen.held) == (HEARD[heard], HELD[left])
    check_rules(cell, seen)


def check_rules(cell: Cell, seen: Seen) -> None:
    """What holds in every run of every cell, also of one that the machine was too slow for."""
    assert seen.held in {"whole", "none"}, cell
    if cell.operation in WRITES and seen.heard == "ok":
        assert seen.held == "whole", cell
    if cell.operation in READS:
        assert seen.held == "whole", cell
    assert seen.heard != "missing", cell


def is_late(cell: Cell, seen: Seen) -> bool:
    """Whether more attempts failed than were spoilt: on a busy machine an answer may come too late."""
    heard, _ = expected(cell)
    return seen.heard == NEVER_MET or (seen.heard == "unavailable" and heard in {"o", "x"})


def test_the_table_has_every_cell() -> None:
    assert len(CELLS) == 2 * 11 * 17
    for cell in CELLS:
        heard, left = expected(cell)
        assert heard in HEARD
        assert left in HELD
