"""Whatever is put into a log comes out of it, whole windows or byte by byte."""

from random import Random
from uuid import UUID

import google_crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from des.ingest import scan
from des.ingest.record import (
    NAME_MAX,
    Draft,
    Kind,
    LogVersionError,
    encode,
    encode_outside,
    end_draft,
    floor_draft,
    sealing_draft,
    stored_draft,
)
from des.ingest.scan import Found, later_group, scan_segment
from des.ingest.segment import SegmentHeader
from des.ingest.values import Extent, OpenFile, Sealing

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
    lambda text: len(text.encode()) <= NAME_MAX
)
HEADERS = st.builds(
    SegmentHeader,
    st.builds(UUID, int=st.integers(0, (1 << 128) - 1)),
    U64,
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 1 << 60),
    U32,
)
EXTENTS = st.builds(Extent, U32, st.integers(64, 1 << 40), U32, U32)
SEALINGS = st.builds(
    Sealing,
    NAMES,
    U32,
    U32,
    st.integers(0, 65535),
    st.integers(0, 255),
    NAMES,
    U64,
    st.lists(st.integers(0, 1 << 62), unique=True).map(sorted),
)


@st.composite
def files(draw):
    name, facts, day, shard = draw(NAMES), draw(st.binary(max_size=60)), draw(U32), draw(U32)
    if draw(st.booleans()):
        data = draw(st.binary(max_size=300))
        crc32c = google_crc32c.value(data)
        return Draft(Kind.FILE, 0, name.encode(), facts, data, crc32c, day, shard), (data, facts, ())
    blocks = tuple(draw(st.lists(EXTENTS, max_size=3)))
    text = encode_outside(size=draw(U64), crc32c=draw(U32), extents=blocks, facts=facts)
    return Draft(Kind.FILE, 1 if blocks else 2, name.encode(), text, b"", 0, day, shard), (b"", facts, blocks)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(header=HEADERS, drafts=st.lists(files(), max_size=6), small_window=st.booleans())
def test_files_come_back_as_they_were_written(header, drafts, small_window):
    content, written, seq, crc = header.encode(), [], header.first_seq, header.crc
    for draft, (data, facts, blocks) in drafts:
        head, crc = encode(draft, seq=seq, group=seq, time_ms=seq, prev_crc=crc, salt=header.salt)
        written.append((draft, seq, len(content) + len(head), data, facts, blocks))
        content += head + draft.data
        seq += 1
    head, _ = encode(end_draft(), seq=seq, group=seq, time_ms=0, prev_crc=crc, salt=header.salt)
    content += head

    def read(size, offset):
        return content[offset : offset + size]

    found = Found()
    window, scan.WINDOW = scan.WINDOW, 1600 if small_window else scan.WINDOW
    try:
        result = scan_segment(read, header, found)
    finally:
        scan.WINDOW = window
    assert result.ended
    assert (len(content), seq + 1) == (result.stop, result.next_seq)
    for file, (draft, number, offset, data, facts, blocks) in zip(found.files, written, strict=True):
        assert isinstance(file, OpenFile)
        assert (draft.name.decode(), draft.day, draft.shard, number) == (
            file.name,
            file.day,
            file.shard,
            file.seq,
        )
        assert (facts, number) == (file.facts, file.time_ms)
        if data:
            (extent,) = file.extents
            assert (header.number, offset, draft.data_crc) == (extent.segment, extent.offset, extent.crc32c)
            assert data == content[extent.offset : extent.offset + extent.length]
        else:
            assert blocks == file.extents


@settings(max_examples=60, deadline=None)
@given(header=HEADERS, sealing=SEALINGS, floor=U64)
def test_control_records_come_back_as_they_were_written(header, sealing, floor):
    content, seq, crc = header.encode(), header.first_seq, header.crc
    for draft in (floor_draft(floor), sealing_draft(sealing), stored_draft(sealing.container_id, "etag")):
        head, crc = encode(draft, seq=seq, group=seq, time_ms=0, prev_crc=crc, salt=header.salt)
        content += head + draft.data
        seq += 1
    found = Found()
    result = scan_segment(lambda size, offset: content[offset : offset + size], header, found)
    assert (result.cause, result.broken) == ("the segment ends without an END record", False)
    assert floor == found.floor_ms
    (back,) = found.sealings.values()
    assert sealing.seqs == list(back.seqs)
    back.seqs = sealing.seqs
    assert sealing == back
    assert {sealing.container_id} == found.stored


@settings(max_examples=300, deadline=None)
@given(header=HEADERS, noise=st.binary(max_size=400), seed=U32)
def test_noise_is_never_a_record(header, noise, seed):
    """Random bytes, some that begin like a record: an answer, or the refusal of a newer version."""
    rng = Random(seed)
    content = header.encode() + b"DCER" * rng.randrange(3) + noise
    found = Found()

    def read(size, offset):
        return content[offset : offset + size]

    try:
        result = scan_segment(read, header, found)
    except LogVersionError:
        return
    assert found.files == []
    assert later_group(read, result) is None
