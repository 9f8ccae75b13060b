"""What `des doctor` looks at: each part of a store that a node needs, without changing any of it.

A check is an async function of the settings that returns findings; `CHECKS` lists them in the order in
which a node needs the parts. A part that could not be looked at is a finding too, never an exception.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from des.config import Settings
from des.db import Catalog, DesDbConnector, SqlCatalog
from des.db.migration import revision_of
from des.errors import DesError, UnavailableError
from des.storage import open_store
from des.storage.identity import read_identity
from des.storage.object_store import ObjectStore, ObjectStoreForbiddenError

CATALOG: Final = "catalog.sqlite"
OPEN_SINCE: Final = "0007"
"""Revision of the catalog from which on nodes tell it what they have in no container."""
CHECK_TIMEOUT_S: Final = 120.0
"""How long one check may take."""


class Verdict(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNING = "warning"
    """A node runs, with less than it could have."""
    FAILED = "failed"
    """A node would not start, or would serve nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    part: str
    """"environment", "data folder", "catalog", "object store", "running node"."""
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do about it; empty when nothing is to be done."""
    unavailable: bool = False
    """The part did not answer: looking again later may say something else."""


Check = Callable[[Settings], Awaitable[list[Finding]]]


async def diagnose(settings: Settings) -> list[Finding]:
    """Look at every part, at the next one also when one is bad."""
    return [finding for check in CHECKS for finding in await _looked(check, settings)]


async def check_data_folder(settings: Settings) -> list[Finding]:
    """Look at the folder of the log: there, ours, with room."""
    part = "data folder"
    folder = settings.data_dir.absolute()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(above, os.R_OK | os.W_OK | os.X_OK):
        advice = f"give the server's user read and write permission on {above}"
        return [Finding(part, Verdict.FAILED, f"{above} cannot be written by this user", advice)]
    free = shutil.disk_usage(above).free
    reserve = int(settings.log.reserve_free_bytes)
    room = f"{free >> 20:,} MiB free"
    if free <= reserve:
        advice = f"free more than log.reserve_free_bytes ({reserve >> 20:,} MiB): below it writes are refused"
        return [Finding(part, Verdict.FAILED, f"{folder}: {room}", advice)]
    if free < reserve + int(settings.log.budget_bytes):
        advice = "the log may grow to log.budget_bytes: lower it, or free disk"
        return [Finding(part, Verdict.WARNING, f"{folder}: {room}", advice)]
    state = "" if folder.exists() else ", made by the first start"
    return [Finding(part, Verdict.OK, f"{folder}: {room}{state}")]


async def check_catalog(settings: Settings) -> list[Finding]:
    """Look at the catalog: reachable, and of a schema this version knows."""
    part = "catalog"
    url = _catalog_url(settings)
    if (file := _absent_file(url)) is not None:
        return [Finding(part, Verdict.OK, f"{file}: not there yet, made by the first start")]
    connector = DesDbConnector(url)
    try:
        revision = await connector.read(lambda connection: connection.run_sync(revision_of))
        answers = Finding(
            part, Verdict.OK, f"{connector!r} answers, schema revision {revision or 'none yet'}"
        )
        if revision is None or revision < OPEN_SINCE:
            return [answers]
        return [answers, *await _open_files(SqlCatalog(connector), part)]
    finally:
        await connector.close()


async def _open_files(catalog: Catalog, part: str) -> list[Finding]:
    """Say how much is in no container, as last told, and how much of it in logs that nobody runs."""
    rows = await catalog.open_containers()
    if not rows:
        return []
    now = await catalog.now_ms()
    held = {lock.shard for lock in await catalog.shard_locks() if lock.expires_ms > now}
    idle = sum(row.files for row in rows if row.shard not in held)
    found = (
        f"{sum(row.files for row in rows):,} files of {sum(row.data_bytes for row in rows) >> 20:,} MiB wait "
        f"for containers in the logs of {len({row.node for row in rows})} nodes, as last told"
    )
    return [Finding(part, Verdict.OK, found + (f"; {idle:,} of them where no node runs now" if idle else ""))]


async def check_object_store(settings: Settings) -> list[Finding]:
    """Look at the object store: what it honours, and whether it is the catalog's."""
    part = "object store"
    folder = settings.object_dir or settings.data_dir / "objects"
    where = settings.object_store or str(folder)
    if not settings.object_store and _is_absent(folder):
        return [Finding(part, Verdict.OK, f"{where}: not there yet, made by the first start")]
    store = open_store(settings.object_store, settings)
    try:
        found = await store.capabilities()
        honours = {
            "conditional create": found.conditional_create,
            "conditional read": found.conditional_read,
            "conditional delete": found.conditional_delete,
            "ranges": found.ranges,
            "checksums": found.checksums,
            "server-side copy": found.server_side_copy,
        }
        kept = ", ".join(name for name, has in honours.items() if has)
        findings = [Finding(part, Verdict.OK, f"{where} ({found.kind}) honours {kept}")]
        if not found.ranges:
            findings = [Finding(part, Verdict.FAILED, f"{where} does not serve ranges", "use another store")]
        findings += [Finding(part, Verdict.WARNING, advice) for advice in found.advice]
        if not found.survives_node:
            findings.append(Finding(part, Verdict.OK, "the objects are lost with this machine's disk"))
        return [*findings, await _identity(settings, store, part)]
    finally:
        await store.close()


async def _identity(settings: Settings, store: ObjectStore, part: str) -> Finding:
    found = await read_identity(store, object_prefix=settings.object_prefix)
    if found is None:
        return Finding(part, Verdict.OK, "belongs to no store yet, the first start claims it")
    known = await _known_store(settings)
    if known is not None and known != found:
        return Finding(
            part,
            Verdict.FAILED,
            f"belongs to DES store {found}, the catalog to {known}",
            "correct object_store, object_prefix or catalog_url",
        )
    return Finding(part, Verdict.OK, f"belongs to DES store {found}")


async def _known_store(settings: Settings) -> str | None:
    """Return the store id of a catalog that has one; None where nothing was made yet."""
    url = _catalog_url(settings)
    if _absent_file(url) is not None:
        return None
    connector = DesDbConnector(url)
    catalog = SqlCatalog(connector)
    try:
        if await connector.read(lambda connection: connection.run_sync(revision_of)) is None:
            return None
        return await catalog.store_id()
    finally:
        await catalog.close()


def _catalog_url(settings: Settings) -> str:
    return settings.catalog_url or f"sqlite:///{(settings.data_dir / CATALOG).absolute()}"


def _absent_file(url: str) -> str | None:
    """Return the file of a SQLite catalog that was not made yet: connecting would make it."""
    parsed = make_url(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return file if file is not None and _is_absent(Path(file)) else None


def _is_absent(path: Path) -> bool:
    return not path.exists()


async def _looked(check: Check, settings: Settings) -> list[Finding]:
    part = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check(settings)
    except TimeoutError:
        advice = "look at the network between here and there"
        found = f"no answer within {CHECK_TIMEOUT_S:.0f} s"
        return [Finding(part, Verdict.FAILED, found, advice, unavailable=True)]
    except ObjectStoreForbiddenError as error:
        advice = "check the credentials, the bucket's policy and this machine's clock"
        return [Finding(part, Verdict.FAILED, str(error), advice)]
    except UnavailableError as error:
        advice = "check that it runs, its address, and the network between"
        return [Finding(part, Verdict.FAILED, str(error), advice, unavailable=True)]
    except (DesError, OSError) as error:
        return [Finding(part, Verdict.FAILED, str(error))]


CHECKS: Final[tuple[Check, ...]] = (check_data_folder, check_catalog, check_object_store)
"""In the order in which a node needs the parts."""
