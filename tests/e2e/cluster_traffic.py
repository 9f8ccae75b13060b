"""Clients that use a cluster in every way, all the time, and remember what they were told."""

import asyncio
import hashlib
import http.client
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from des_client import (
    AsyncDesClient,
    DesClientError,
    Durability,
    FileMissing,
    NameConflict,
    PutItem,
    RetryConfig,
)

from des.testing.history import Answer, Call, Event

if TYPE_CHECKING:
    from tests.e2e.cluster_kit import Cluster

SETTLE_S: Final = 120.0
CALL_S: Final = 30.0
BATCH: Final = 12
THREADS: Final = 40
HTTP_AGAIN: Final = frozenset({429, 503, 504})
"""What HTTP answers where a retry may help."""
KINDS: Final = {
    "auto": 4, "named": 4, "again": 1, "get": 8, "stale": 1, "delete": 1,
    "put many": 1, "get many": 2, "delete many": 0.2, "stat many": 1, "wait stored": 0.4,
    "list": 0.4, "http": 3, "upload": 0.2,
}  # fmt: skip
"""What clients do, and how often."""
UPLOAD_BYTES: Final = (1_200_000, 2_500_000, 8_500_000, 9_500_000)
"""Of a file that goes in several messages; from 8 MiB on in a resumable upload, the last past the log."""


@dataclass
class Traffic:
    """Clients that write and read all the time, and remember everything they were told."""

    cluster: "Cluster"
    seed: int
    durabilities: tuple[Durability | None, ...] = (None,)
    events: list[Event] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    """What was done, by kind."""
    failures: Counter[str] = field(default_factory=Counter)
    """Calls that failed in the end, by kind, after the client's own retries."""
    last_failures: dict[str, str] = field(default_factory=dict)
    """The last message of each."""
    unexpected: list[str] = field(default_factory=list)
    """Failures that no fault explains: a retry would not help, so the call or the store is wrong."""
    slowest_s: float = 0.0
    stored: set[str] = field(default_factory=set)
    """Names that were acknowledged as stored."""
    _names: list[tuple[str, str]] = field(default_factory=list)
    _stop: bool = False

    async def run(self, clients: int, *, pace_s: float = 0.02) -> None:
        """Write and read until `stop`."""
        # A paused node keeps a thread for as long as a call may take; the faults need threads too.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        retry = RetryConfig(attempts=12, backoff_max_s=1.0)
        async with AsyncDesClient(self.cluster.targets, retry=retry) as client:
            await asyncio.gather(
                *(
                    self._one(client, random.Random(f"{self.seed}/{number}"), pace_s)
                    for number in range(clients)
                )
            )

    def stop(self) -> None:
        self._stop = True

    async def _one(self, client: AsyncDesClient, dice: random.Random, pace_s: float) -> None:
        while not self._stop:
            await asyncio.sleep(pace_s * dice.random())
            kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
            begun = time.monotonic()
            self.kinds[kind] += 1
            if kind in {"auto", "named"}:
                await self._put(client, dice, named=kind == "named")
            elif kind == "upload":
                await self._put(client, dice, named=dice.random() < 0.5, sizes=UPLOAD_BYTES)
            elif kind == "put many":
                await self._put_many(client, dice)
            elif self._names:
                await self._use(client, dice, kind)
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)

    async def _use(self, client: AsyncDesClient, dice: random.Random, kind: str) -> None:
        """Do something with names that are there, or were, or may be."""
        recent = [name for name, _ in self._names[-300:]]
        if kind == "again":
            await self._put_as(client, dice.choice(recent), dice.randbytes(9))
        elif kind == "delete":
            await self._delete(client, dice.choice(recent))
        elif kind == "delete many":
            await self._delete_many(client, dice.choices(recent, k=3))
        elif kind == "get many":
            await self._get_many(client, list(dict.fromkeys(dice.choices(recent, k=BATCH))))
        elif kind == "stat many":
            await self._stat_many(client, list(dict.fromkeys(dice.choices(recent, k=BATCH))))
        elif kind == "wait stored":
            await self._wait_stored(client, list(dict.fromkeys(dice.choices(recent, k=3))))
        elif kind == "list":
            await self._list(client)
        elif kind == "http" and self.cluster.http_targets:
            await self._http(dice.choice(self.cluster.http_targets), dice.choice(recent))
        else:
            await self._get(
                client, dice.choice(recent if kind == "get" else [name for name, _ in self._names])
            )

    def _note(self, name: str, call: Call, answer: Answer, began: float, content: str = "") -> None:
        self.events.append(Event(name, call, answer, began, time.monotonic(), content))

    def failed(self, what: str, error: DesClientError) -> None:
        """Note a call that failed in the end."""
        self._failed_as(f"{what} {type(error).__name__}", str(error), explained=error.retryable)

    def _failed_as(self, kind: str, said: str, *, explained: bool) -> None:
        self.failures[kind] += 1
        self.last_failures[kind] = said
        if not explained:
            self.unexpected.append(f"{datetime.now(UTC):%T} {kind}: {said}")

    async def _put(
        self,
        client: AsyncDesClient,
        dice: random.Random,
        *,
        named: bool,
        sizes: Sequence[int] = (0, 10, 1000, 5000, 40_000),
    ) -> None:
        data = dice.randbytes(dice.choice(sizes) + dice.randrange(64))
        name = ""
        if named:
            try:
                name = (await client.assign_names(1))[0].name
            except DesClientError as error:
                self.failed("assign", error)
                return
        await self._put_as(client, name, data, durability=dice.choice(self.durabilities))

    async def _put_as(
        self, client: AsyncDesClient, name: str, data: bytes, durability: Durability | None = None
    ) -> None:
        began = time.monotonic()
        content = hashlib.sha256(data).hexdigest()
        options: dict[str, Any] = {"name": name} if name else {}
        if durability is not None:
            options["durability"] = durability
        answer = Answer.DONE
        try:
            result = await client.put(data, timeout_s=30, **options)
            name = result.file.name
            if result.durability is Durability.STORED:
                self.stored.add(name)
        except NameConflict:
            answer = Answer.REFUSED
        except DesClientError as error:
            answer = Answer.UNKNOWN
            self.failed("put", error)
        if name:
            self.events.append(Event(name, Call.PUT, answer, began, time.monotonic(), content))
            if answer is not Answer.REFUSED:
                self._names.append((name, content))

    async def _put_many(self, client: AsyncDesClient, dice: random.Random) -> None:
        datas = [dice.randbytes(dice.choice([0, 10, 1000, 5000]) + dice.randrange(64)) for _ in range(BATCH)]
        durability = dice.choice(self.durabilities)
        began = time.monotonic()
        try:
            names = [one.name for one in await client.assign_names(BATCH // 2)]
        except DesClientError as error:
            self.failed("assign", error)
            names = []
        contents = [hashlib.sha256(data).hexdigest() for data in datas]
        given = {at: names[at] for at in range(len(names))}
        items = [PutItem(data, name=given.get(at)) for at, data in enumerate(datas)]
        told: set[int] = set()
        try:
            async for outcome in client.put_many(items, durability=durability, timeout_s=CALL_S):
                at = outcome.index
                told.add(at)
                if outcome.result is not None:
                    name, answer = outcome.result.file.name, Answer.DONE
                    if outcome.result.durability is Durability.STORED:
                        self.stored.add(name)
                else:
                    assert outcome.error is not None
                    self.failed("put many", outcome.error)
                    name, answer = given.get(at, ""), Answer.UNKNOWN
                if name:
                    self._note(name, Call.PUT, answer, began, contents[at])
                    self._names.append((name, contents[at]))
        except DesClientError as error:
            self.failed("put many", error)
        for at, name in given.items():
            if at not in told:
                self._note(name, Call.PUT, Answer.UNKNOWN, began, contents[at])
                self._names.append((name, contents[at]))

    async def _get_many(self, client: AsyncDesClient, names: Sequence[str]) -> None:
        began = time.monotonic()
        try:
            async for outcome in client.get_many(names, timeout_s=CALL_S):
                if outcome.data is not None:
                    content = hashlib.sha256(outcome.data).hexdigest()
                    self._note(outcome.name, Call.GET, Answer.DONE, began, content)
                elif isinstance(outcome.error, FileMissing):
                    self._note(outcome.name, Call.GET, Answer.ABSENT, began)
                else:
                    assert outcome.error is not None
                    self.failed("get many", outcome.error)
        except DesClientError as error:
            self.failed("get many", error)

    async def _stat_many(self, client: AsyncDesClient, names: Sequence[str]) -> None:
        began = time.monotonic()
        try:
            async for outcome in client.stat_many(names, timeout_s=CALL_S):
                if outcome.error is None:
                    self._note(outcome.name, Call.STAT, Answer.DONE, began)
                elif isinstance(outcome.error, FileMissing):
                    self._note(outcome.name, Call.STAT, Answer.ABSENT, began)
                else:
                    self.failed("stat many", outcome.error)
        except DesClientError as error:
            self.failed("stat many", error)

    async def _wait_stored(self, client: AsyncDesClient, names: Sequence[str]) -> None:
        """Have files stored that perhaps only one node has; from then on they must survive it."""
        began = time.monotonic()
        try:
            for outcome in await client.wait_stored(names, timeout_s=CALL_S):
                if outcome.error is None:
                    self._note(outcome.name, Call.STAT, Answer.DONE, began)
                    self.stored.add(outcome.name)
                elif isinstance(outcome.error, FileMissing):
                    self._note(outcome.name, Call.STAT, Answer.ABSENT, began)
                else:
                    self.failed("wait stored", outcome.error)
        except DesClientError as error:
            self.failed("wait stored", error)

    async def _delete_many(self, client: AsyncDesClient, names: Sequence[str]) -> None:
        wanted = list(dict.fromkeys(names))
        began = time.monotonic()
        told: set[str] = set()
        try:
            async for outcome in client.delete_many(wanted, timeout_s=CALL_S):
                told.add(outcome.name)
                if outcome.error is None:
                    answer = Answer.DONE
                elif isinstance(outcome.error, FileMissing):
                    answer = Answer.ABSENT
                else:
                    answer = Answer.UNKNOWN
                    self.failed("delete many", outcome.error)
                self._note(outcome.name, Call.DELETE, answer, began)
        except DesClientError as error:
            self.failed("delete many", error)
        for name in wanted:
            if name not in told:
                self._note(name, Call.DELETE, Answer.UNKNOWN, began)

    async def _list(self, client: AsyncDesClient) -> None:
        """List everything, in pages. Files that a lost node alone has may be left out, stored ones never."""
        known = [name for name, _ in self._names]
        stored = set(self.stored)
        began = time.monotonic()
        try:
            listed = {name async for name in client.iter_names(page_size=50, timeout_s=CALL_S)}
        except DesClientError as error:
            self.failed("list", error)
            return
        for name in known:
            if name in listed:
                self._note(name, Call.LIST, Answer.DONE, began)
            elif name in stored:
                self._note(name, Call.LIST, Answer.ABSENT, began)

    async def _http(self, target: str, name: str) -> None:
        def ask() -> tuple[Answer, str, tuple[str, str, bool] | None]:
            url = f"http://{target}/files/{urllib.parse.quote(name)}"
            try:
                with urllib.request.urlopen(url, timeout=CALL_S) as response:
                    return Answer.DONE, hashlib.sha256(response.read()).hexdigest(), None
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in {404, 410}:
                        return Answer.ABSENT, "", None
                    said = error.read().decode(errors="replace")
                return Answer.UNKNOWN, "", (f"http {error.code}", said, error.code in HTTP_AGAIN)
            except (OSError, http.client.HTTPException) as error:
                return Answer.UNKNOWN, "", ("http without an answer", repr(error), True)

        began = time.monotonic()
        answer, content, failed = await asyncio.to_thread(ask)
        if failed is not None:
            kind, said, explained = failed
            self._failed_as(kind, said, explained=explained)
        self._note(name, Call.GET, answer, began, content)

    async def _get(self, client: AsyncDesClient, name: str) -> Answer:
        began = time.monotonic()
        content = ""
        try:
            content = hashlib.sha256(await client.get(name, timeout_s=30)).hexdigest()
            answer = Answer.DONE
        except FileMissing:
            answer = Answer.ABSENT
        except DesClientError as error:
            answer = Answer.UNKNOWN
            self.failed("get", error)
        self.events.append(Event(name, Call.GET, answer, began, time.monotonic(), content))
        return answer

    async def _delete(self, client: AsyncDesClient, name: str) -> None:
        began = time.monotonic()
        try:
            await client.delete(name, timeout_s=30)
            answer = Answer.DONE
        except FileMissing:
            answer = Answer.ABSENT
        except DesClientError as error:
            answer = Answer.UNKNOWN
            self.failed("delete", error)
        self.events.append(Event(name, Call.DELETE, answer, began, time.monotonic()))

    async def read_all(self) -> None:
        """Read every name that was ever tried, until each has a definite answer."""
        deadline = time.monotonic() + SETTLE_S
        wanted = {name for name, _ in self._names}
        async with AsyncDesClient(self.cluster.targets) as client:
            while wanted:
                undecided: set[str] = set()
                names = iter(sorted(wanted))

                async def work() -> None:
                    for name in names:  # noqa: B023  all workers of a round end within it
                        if await self._get(client, name) is Answer.UNKNOWN:
                            undecided.add(name)  # noqa: B023

                await asyncio.gather(*(work() for _ in range(16)))
                wanted = undecided
                assert not wanted or time.monotonic() < deadline, (
                    f"unavailable for good: {sorted(wanted)[:10]}"
                )

    def _names_of(self, call: Call, *answers: Answer) -> set[str]:
        return {event.name for event in self.events if event.call is call and event.answer in answers}

    @property
    def acknowledged(self) -> set[str]:
        """Names whose put was acknowledged."""
        return self._names_of(Call.PUT, Answer.DONE)

    @property
    def deleted(self) -> set[str]:
        """Names that somebody was told are deleted."""
        return self._names_of(Call.DELETE, Answer.DONE)

    @property
    def kept(self) -> set[str]:
        """Names whose put was acknowledged and that nobody tried to delete: they must be there."""
        return self.acknowledged - self._names_of(Call.DELETE, *Answer)
