"""Bytes of docs/log.md, as literals."""

from array import array
from uuid import UUID

import google_crc32c
import pytest

from des.ingest.record import (
    HEADER_SIZE,
    SEALING_SEQS_MAX,
    Draft,
    Kind,
    LogVersionError,
    RecordError,
    decode_floor,
    decode_outside,
    decode_sealing,
    encode,
    encode_outside,
    sealing_draft,
)
from des.ingest.segment import SegmentHeader, SegmentHeaderError, file_name, parse_file_name
from des.ingest.values import Extent, Sealing

# docs/log.md, section 2, worked example.
HEADER = SegmentHeader(UUID(int=5), boot_epoch=3, number=26, first_seq=1000, salt=0xC0FFEE)
GOLDEN_HEADER = bytes.fromhex(
    "4445534c4f473031"
    "0100"
    "0000"
    "00000000"
    "00000000000000000000000000000005"
    "0300000000000000"
    "1a00000000000000"
    "e803000000000000"
    "eeffc000"
)

# docs/log.md, section 3, worked example: file "a" of 3 bytes, facts "{}".
GOLDEN_RECORD = bytes.fromhex(
    "44434552010001000200000003000000e803000000000000e80300000000000000f05a2b8c010000032935010700000078563412"
)


def test_a_segment_header_matches_the_worked_example():
    raw = HEADER.encode()
    assert raw[:60] == GOLDEN_HEADER
    assert google_crc32c.value(GOLDEN_HEADER).to_bytes(4, "little") == raw[60:]
    assert SegmentHeader.decode(raw) == HEADER
    assert int.from_bytes(raw[60:], "little") == HEADER.crc


@pytest.mark.parametrize("bit", range(64 * 8))
def test_any_flipped_bit_of_a_segment_header_is_refused(bit):
    raw = bytearray(HEADER.encode())
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SegmentHeaderError):
        SegmentHeader.decode(bytes(raw))


@pytest.mark.parametrize(("place", "value"), [(8, 2), (10, 1), (12, 1)])
def test_an_unknown_version_feature_or_reserved_bit_is_refused(place, value):
    raw = bytearray(HEADER.encode()[:60])
    raw[place] = value
    crc32c = google_crc32c.value(bytes(raw)).to_bytes(4, "little")
    with pytest.raises(LogVersionError):
        SegmentHeader.decode(bytes(raw) + crc32c)


def test_a_short_header_is_refused():
    with pytest.raises(SegmentHeaderError, match="63 bytes"):
        SegmentHeader.decode(HEADER.encode()[:63])


def test_a_record_matches_the_worked_example():
    data = b"abc"
    crc32c = google_crc32c.value(data)
    draft = Draft(Kind.FILE, 0, b"a", b"{}", data, crc32c, 20261123, 7)
    head, header_crc = encode(
        draft, seq=1000, group=1000, time_ms=0x18C2B5AF000, prev_crc=0x12345678, salt=HEADER.salt
    )
    assert head[: len(GOLDEN_RECORD)] == GOLDEN_RECORD
    assert crc32c.to_bytes(4, "little") == head[52:56]
    assert google_crc32c.extend(HEADER.salt, b"a{}").to_bytes(4, "little") == head[56:60]
    assert google_crc32c.extend(HEADER.salt, head[:60]) == header_crc
    assert header_crc.to_bytes(4, "little") + b"a{}" == head[60:]
    assert draft.size == HEADER_SIZE + 3 + 3


def test_file_names_and_nothing_else_are_parsed():
    assert file_name(3, 26) == "log-00000003-0000001a.dlog"
    assert parse_file_name("log-00000003-0000001a.dlog") == (3, 26)
    for other in ("log-00000003-0000001a.dlog.tmp", "log-3-1a.dlog", "log-0000000G-0000001a.dlog", ""):
        assert parse_file_name(other) is None


def test_text_of_a_file_outside_its_record_is_bounded_by_itself():
    extents = (Extent(1, 64, 5, 9), Extent(2, 70, 6, 8))
    text = encode_outside(size=11, crc32c=3, extents=extents, facts=b"facts")
    assert decode_outside(text) == (11, 3, extents, b"facts")
    for stop in (0, 15, 16, 63):
        with pytest.raises(RecordError):
            decode_outside(text[:stop])


def test_a_sealing_of_a_million_files_is_small_and_exact():
    seqs = array("Q", range(10, 10 + 3 * SEALING_SEQS_MAX, 3))
    sealing = Sealing("id", 20261123, 16, 4, 8, "framed", 1 << 40, seqs)
    draft = sealing_draft(sealing)
    assert len(draft.data) < 100_000
    assert sealing == decode_sealing("id", draft.text, draft.data)


@pytest.mark.parametrize("seqs", [[3, 2], [2, 2], range(SEALING_SEQS_MAX + 1)])
def test_members_of_a_sealing_ascend_and_are_counted(seqs):
    with pytest.raises(ValueError, match="sealing"):
        sealing_draft(Sealing("id", 20261123, 0, 1, 8, "v1", 1, seqs))


def test_a_sealing_that_lies_about_its_members_is_refused():
    draft = sealing_draft(Sealing("id", 20261123, 0, 1, 8, "v1", 1, [1, 2, 3]))
    count_at = 21
    for count in (0, 2, 4, (1 << 32) - 1):
        text = draft.text[:count_at] + count.to_bytes(4, "little") + draft.text[count_at + 4 :]
        with pytest.raises(RecordError):
            decode_sealing("id", text, draft.data)
    with pytest.raises(RecordError):
        decode_sealing("id", draft.text[:5], draft.data)
    with pytest.raises(RecordError):
        decode_sealing("id", draft.text, b"not zlib")
    with pytest.raises(RecordError):
        decode_floor(b"1234567")
