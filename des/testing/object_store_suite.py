"""What every object store must do; settles what the text of the door leaves in doubt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import pytest

from des.storage.checks import InvalidKeyError, InvalidObjectMetadataError
from des.storage.object_store import (
    NoSuchObjectError,
    ObjectChangedError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectInfo,
    ObjectStore,
)

KEY = "2026-11-23/0a/one.des"
CONTENT = bytes(range(256)) * 40

CLOCKS_APART_MS: Final = 30_000

BAD_KEYS = [
    "",
    "/absolute",
    "folder/",
    "a//b",
    "..",
    "a/../b",
    "./a",
    ".hidden",
    "a/.hidden/b",
    "nul\x00byte",
    "line\nbreak",
    "lone\ud800surrogate",
    "p" * 300,
    "/".join(["part"] * 300),
]


class BytesBody:
    """Bytes to upload that were never in a file. `read_size_max` shortens reads, as a disk may."""

    def __init__(self, data: bytes, *, read_size_max: int = 1 << 30) -> None:
        self._data = data
        self._read_size_max = read_size_max

    def size(self) -> int:
        """Return the length in bytes."""
        return len(self._data)

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        return self._data[offset : offset + min(size, self._read_size_max)]


class ShortBody(BytesBody):
    """Promises a byte more than it has."""

    def size(self) -> int:
        """Return one byte too many."""
        return super().size() + 1


async def put(store: ObjectStore, key: str, data: bytes = CONTENT) -> ObjectInfo:
    """Create an object without metadata."""
    return await store.create(key, BytesBody(data), metadata={})


async def keys(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[str]:
    """Return the keys that `list` yields."""
    return [info.key async for info in store.list(prefix, start_after=start_after)]


def same(one: ObjectInfo, other: ObjectInfo) -> bool:
    """Whether two answers are about the same object; the time of a fresh one is known to a few seconds."""
    return replace(one, modified_ms=0) == replace(other, modified_ms=0) and (
        abs(one.modified_ms - other.modified_ms) <= CLOCKS_APART_MS
    )


class ObjectStoreSuite:
    """Subclass, and give a fixture `store` that yields a fresh, empty store."""

    async def test_an_object_reads_back_as_it_was_made(self, store: ObjectStore) -> None:
        """`create`, `head`, `get_range` agree."""
        made = await store.create(KEY, BytesBody(CONTENT, read_size_max=1000), metadata={"owner": "n1/7"})
        assert (made.key, made.size, made.metadata) == (KEY, len(CONTENT), {"owner": "n1/7"})
        assert same(made, await store.head(KEY))
        assert await store.get_range(KEY, 0, len(CONTENT)) == CONTENT
        for size in (0, 1, len(CONTENT), len(CONTENT) + 7):
            info, tail = await store.get_tail(KEY, size, etag=made.etag)
            assert (info.etag, info.size) == (made.etag, len(CONTENT))
            assert tail == CONTENT[max(0, len(CONTENT) - size) :]
        with pytest.raises(ObjectChangedError):
            await store.get_tail(KEY, 1, etag="other")
        with pytest.raises(NoSuchObjectError):
            await store.get_tail("absent", 1)

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 5000), (10239, 10240), (4096, 8192)])
    async def test_a_range_is_exactly_its_bytes(self, store: ObjectStore, start: int, stop: int) -> None:
        """First, middle and last byte; twice, since a store may keep what it read."""
        made = await put(store, KEY)
        for _ in range(2):
            assert await store.get_range(KEY, start, stop, etag=made.etag) == CONTENT[start:stop]

    async def test_an_empty_range_is_empty(self, store: ObjectStore) -> None:
        """It costs no request, so it does not even tell whether the object exists."""
        assert await store.get_range("absent", 7, 7) == b""

    @pytest.mark.parametrize(("start", "stop"), [(-1, 4), (4, 3)])
    async def test_a_backward_range_is_a_mistake(self, store: ObjectStore, start: int, stop: int) -> None:
        """No object has it."""
        await put(store, KEY)
        with pytest.raises(ValueError, match="range"):
            await store.get_range(KEY, start, stop)

    @pytest.mark.parametrize(("start", "stop"), [(0, 10241), (10240, 10241), (20000, 20001)])
    async def test_a_range_behind_the_end_is_damage(self, store: ObjectStore, start: int, stop: int) -> None:
        """Never a short answer."""
        await put(store, KEY)
        with pytest.raises(ObjectDamagedError):
            await store.get_range(KEY, start, stop)

    async def test_an_absent_object_is_known_to_be_absent(self, store: ObjectStore) -> None:
        """Also where its key is the start of others, or runs through another."""
        await put(store, KEY)
        for key in ("absent", "2026-11-23", "2026-11-23/0a", KEY + "/deeper", "2026-11-23/0b/one.des"):
            with pytest.raises(NoSuchObjectError):
                await store.head(key)
            with pytest.raises(NoSuchObjectError):
                await store.get_range(key, 0, 1)
            await store.delete(key)
        assert await store.get_range(KEY, 0, 10) == CONTENT[:10]

    async def test_an_object_is_never_overwritten(self, store: ObjectStore) -> None:
        """The second writer is told, and the first one's bytes and metadata stay."""
        made = await store.create(KEY, BytesBody(CONTENT), metadata={"try": "1"})
        with pytest.raises(ObjectExistsError):
            await store.create(KEY, BytesBody(b"other"), metadata={"try": "2"})
        assert same(made, await store.head(KEY))
        assert await store.get_range(KEY, 0, len(CONTENT)) == CONTENT

    async def test_of_sixteen_writers_one_wins(self, store: ObjectStore) -> None:
        """Its bytes and its metadata, not a mixture."""
        made = await asyncio.gather(
            *(
                store.create(KEY, BytesBody(bytes([i]) * 100_000), metadata={"writer": str(i)})
                for i in range(16)
            ),
            return_exceptions=True,
        )
        winners = [info for info in made if isinstance(info, ObjectInfo)]
        assert len(winners) == 1
        assert all(isinstance(info, ObjectInfo | ObjectExistsError) for info in made)
        assert same(winners[0], await store.head(KEY))
        wanted = bytes([int(winners[0].metadata["writer"])]) * 100_000
        assert await store.get_range(KEY, 0, 100_000) == wanted
        assert await keys(store) == [KEY]

    async def test_another_etag_is_refused(self, store: ObjectStore) -> None:
        """Also by an object made anew under the same key with bytes of the same length."""
        first = await put(store, KEY, b"first")
        with pytest.raises(ObjectChangedError):
            await store.get_range(KEY, 0, 5, etag="other")
        assert await store.get_range(KEY, 0, 5, etag=first.etag) == b"first"
        await store.delete(KEY)
        second = await put(store, KEY, b"other")
        assert second.etag != first.etag
        with pytest.raises(ObjectChangedError):
            await store.get_range(KEY, 0, 5, etag=first.etag)
        assert await store.get_range(KEY, 0, 5, etag=second.etag) == b"other"
        assert await store.get_range(KEY, 0, 5) == b"other"

    async def test_delete_removes_and_may_be_repeated(self, store: ObjectStore) -> None:
        """What was deleted is gone at once, also for a reader that had it open."""
        made = await put(store, KEY)
        await store.get_range(KEY, 0, 1)
        with pytest.raises(ObjectChangedError):
            await store.delete(KEY, etag="other")
        await store.delete(KEY, etag=made.etag)
        await store.delete(KEY, etag=made.etag)
        await store.delete(KEY)
        with pytest.raises(NoSuchObjectError):
            await store.get_range(KEY, 0, 1)
        assert await keys(store) == []

    async def test_a_zero_length_object_exists(self, store: ObjectStore) -> None:
        """Nothing can be read of it but that it is there."""
        made = await put(store, KEY, b"")
        assert made.size == 0
        assert same(made, await store.head(KEY))
        assert await store.get_range(KEY, 0, 0) == b""
        with pytest.raises(ObjectDamagedError):
            await store.get_range(KEY, 0, 1)

    async def test_a_body_that_ends_early_makes_no_object(self, store: ObjectStore) -> None:
        """Whole or not at all."""
        with pytest.raises(ObjectDamagedError):
            await store.create(KEY, ShortBody(CONTENT), metadata={})
        assert await keys(store) == []

    async def test_list_goes_in_key_order(self, store: ObjectStore) -> None:
        """Order of code points of whole keys, wherever slashes stand."""
        made = ["a-b", "a/b", "a/c/d", "a/c-d", "a0", "b", "ą/ż", "B/z"]
        for key in made:
            await put(store, key, key.encode())
        assert await keys(store) == sorted(made)
        infos = [info async for info in store.list("a/")]
        assert infos == [await store.head(key) for key in ("a/b", "a/c-d", "a/c/d")]

    async def test_list_starts_after_a_key_and_keeps_to_a_prefix(self, store: ObjectStore) -> None:
        """A prefix need not end at a slash, and neither need exist as a key."""
        made = ["a-b", "a/b", "a/c/d", "a/c-d", "b"]
        for key in made:
            await put(store, key, b"")
        for prefix in ("", "a", "a/", "a/c", "a/c/d", "b", "none/"):
            for start_after in ("", "a", "a/b", "a/c", "a/c/", "a/c/d", "a/d", "b", "zz"):
                wanted = sorted(key for key in made if key.startswith(prefix) and key > start_after)
                assert await keys(store, prefix, start_after) == wanted, (prefix, start_after)

    async def test_list_outlives_a_delete(self, store: ObjectStore) -> None:
        """An object that goes while it is listed is listed or not; the others are."""
        for i in range(5):
            await put(store, f"a/{i}", b"")
        seen = []
        listing = store.list("a/")
        assert isinstance(listing, AsyncIterator)
        async for info in listing:
            seen.append(info.key)
            await store.delete("a/3")
        assert set(seen) | {"a/3"} == {f"a/{i}" for i in range(5)}

    async def test_a_stream_becomes_one_object(self, store: ObjectStore) -> None:
        """Nobody sees it before it is finished."""
        upload = await store.begin_upload(KEY, metadata={"kind": "big"})
        for start in range(0, len(CONTENT), 1000):
            await upload.write(CONTENT[start : start + 1000])
            assert await keys(store) == []
        made = await upload.finish()
        assert (made.size, made.metadata) == (len(CONTENT), {"kind": "big"})
        assert same(made, await store.head(KEY))
        assert await store.get_range(KEY, 0, len(CONTENT)) == CONTENT
        await upload.abort()
        assert await store.get_range(KEY, 0, 1) == CONTENT[:1]

    async def test_a_stream_of_nothing_becomes_an_empty_object(self, store: ObjectStore) -> None:
        """As `create` of nothing does."""
        upload = await store.begin_upload(KEY, metadata={})
        assert (await upload.finish()).size == 0
        assert (await store.head(KEY)).size == 0

    async def test_an_aborted_stream_leaves_nothing(self, store: ObjectStore) -> None:
        """Twice is once, and the key stays free."""
        upload = await store.begin_upload(KEY, metadata={})
        await upload.write(CONTENT)
        await upload.abort()
        await upload.abort()
        assert await keys(store) == []
        await put(store, KEY)

    async def test_a_stream_never_overwrites(self, store: ObjectStore) -> None:
        """Whoever finishes first has the key."""
        upload = await store.begin_upload(KEY, metadata={})
        await upload.write(b"late")
        made = await put(store, KEY)
        with pytest.raises(ObjectExistsError):
            await upload.finish()
        await upload.abort()
        assert same(made, await store.head(KEY))

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_a_bad_key_is_refused_everywhere(self, store: ObjectStore, key: str) -> None:
        """What one store could not hold safely, no store takes."""
        with pytest.raises(InvalidKeyError):
            await put(store, key)
        with pytest.raises(InvalidKeyError):
            await store.begin_upload(key, metadata={})
        with pytest.raises(InvalidKeyError):
            await store.head(key)
        with pytest.raises(InvalidKeyError):
            await store.get_range(key, 0, 1)
        with pytest.raises(InvalidKeyError):
            await store.delete(key)

    @pytest.mark.parametrize("metadata", [{"Upper": "x"}, {"key": "żółw"}, {"key": "a\nb"}, {"": "x"}])
    async def test_metadata_that_no_header_carries_is_refused(
        self, store: ObjectStore, metadata: dict[str, str]
    ) -> None:
        """Before anything is written."""
        with pytest.raises(InvalidObjectMetadataError):
            await store.create(KEY, BytesBody(CONTENT), metadata=metadata)
        with pytest.raises(InvalidObjectMetadataError):
            await store.begin_upload(KEY, metadata=metadata)
        assert await keys(store) == []

    async def test_metadata_is_the_stores_own_copy(self, store: ObjectStore) -> None:
        """Changing the mapping later changes nothing."""
        metadata = {"a": "1"}
        await store.create(KEY, BytesBody(CONTENT), metadata=metadata)
        metadata["a"] = "2"
        assert (await store.head(KEY)).metadata == {"a": "1"}

    async def test_uploads_that_nobody_finished_are_dropped(self, store: ObjectStore) -> None:
        """Old ones only; one that is being written elsewhere may be young or old, objects are neither."""
        await put(store, KEY)
        upload = await store.begin_upload("other", metadata={})
        await upload.write(bytes(11 << 20))
        assert await store.abort_stale_uploads("", begun_before_ms=1) == 0
        await upload.finish()
        assert await store.abort_stale_uploads("", begun_before_ms=1 << 42) == 0
        assert await keys(store) == [KEY, "other"]

    async def test_a_listing_may_be_left_early(self, store: ObjectStore) -> None:
        """Nothing is owed to it."""
        for i in range(3):
            await put(store, f"k{i}", b"")
        async with aclosing(store.list("")) as listing:  # type: ignore[type-var] # a generator in each store
            assert (await anext(listing)).key == "k0"

    async def test_the_store_says_what_it_is(self, store: ObjectStore) -> None:
        """Twice the same."""
        capabilities = await store.capabilities()
        assert capabilities.conditional_create
        assert capabilities == await store.capabilities()
