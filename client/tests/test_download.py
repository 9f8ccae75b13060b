"""The download state machine, fed by hand."""

import google_crc32c
import pytest
from des_client.download import Download
from des_client.errors import ChecksumMismatch, DataLoss, Internal, InvalidArgument, Unavailable
from des_client.items import GetItem
from des_proto.v1 import file_service_pb2, types_pb2

DATA = b"0123456789"
CRC = google_crc32c.value(DATA)


def first(data=b"", start=0, stop=10, total=10, size=10, crc=CRC, chunk_crc=None):
    answer = chunk(data, chunk_crc)
    answer.file.name = "x"
    answer.file.size_bytes = size
    if crc is not None:
        answer.file.checksums.crc32c = crc
    answer.content_range.start, answer.content_range.end = start, stop
    answer.content_range.total_size = total
    return answer


def chunk(data, crc=None):
    return file_service_pb2.GetFileResponse(chunk=types_pb2.DataChunk(data=data, crc32c=crc))


def begun(**options):
    download = Download("x", **options)
    download.request()
    return download


def test_whole_byte_by_byte_and_with_signs_of_life():
    download = begun()
    got = download.accept(first())
    for at in range(10):
        assert not download.complete
        got += download.accept(chunk(b""))
        got += download.accept(chunk(DATA[at : at + 1]))
    download.end()
    assert got == DATA
    assert download.complete


def test_a_request_says_only_what_it_must():
    assert not Download("x").request().HasField("range")
    request = Download("x", offset=-3, limit=2).request()
    assert (request.range.offset, request.range.limit) == (-3, 2)


def test_a_second_attempt_asks_for_the_rest_of_the_range_found():
    download = begun(offset=-8, limit=6)
    download.accept(first(DATA[2:5], start=2, stop=8))
    request = download.request()
    assert (request.range.offset, request.range.limit) == (5, 3)
    assert download.accept(first(DATA[5:8], start=5, stop=8)) == DATA[5:8]
    download.end()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (chunk(DATA), Internal),
        (first(DATA, stop=11), Internal),
        (first(DATA, start=-1), Internal),
        (first(DATA, start=7, stop=5), Internal),
        (first(DATA, total=11), Internal),
        (first(DATA, size=9), Internal),
        (first(DATA + b"x"), Internal),
        (first(DATA, chunk_crc=1), ChecksumMismatch),
        (first(DATA, crc=1), ChecksumMismatch),
    ],
)
def test_answers_that_break_the_protocol_are_refused(answer, error):
    with pytest.raises(error):
        begun().accept(answer)


def test_an_empty_file_is_checked_too():
    download = begun()
    assert download.accept(first(b"", stop=0, total=0, size=0, crc=0)) == b""
    download.end()
    with pytest.raises(ChecksumMismatch):
        begun().accept(first(b"", stop=0, total=0, size=0, crc=5))


def test_a_part_is_not_held_against_the_files_checksum():
    download = begun(offset=1)
    download.accept(first(DATA[1:], start=1, crc=1))
    download.end()


def test_a_file_without_a_checksum_is_taken_as_it_comes():
    begun().accept(first(DATA, crc=None))


def test_an_early_end_is_worth_another_attempt():
    for answers in ([], [first(DATA[:4])]):
        download = begun()
        for answer in answers:
            download.accept(answer)
        with pytest.raises(Unavailable, match=f"after {download.received} of"):
            download.end()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (first(DATA[4:], start=4, crc=1), DataLoss),
        (first(DATA[4:], start=4, stop=11, total=11, size=11), DataLoss),
        (first(DATA[3:], start=3), Internal),
        (first(DATA[4:9], start=4, stop=9), Internal),
    ],
)
def test_a_second_attempt_must_find_the_same_file_at_the_same_place(answer, error):
    download = begun()
    download.accept(first(DATA[:4]))
    download.request()
    with pytest.raises(error):
        download.accept(answer)


def test_nothing_is_known_of_a_file_before_its_first_answer():
    with pytest.raises(Internal):
        _ = begun().file


def test_a_limit_of_nothing_is_refused():
    for limit in (0, -1):
        with pytest.raises(InvalidArgument):
            Download("x", limit=limit)


@pytest.mark.parametrize("bit", range(len(DATA) * 8))
def test_any_flipped_bit_is_noticed(bit):
    flipped = bytearray(DATA)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ChecksumMismatch):
        begun().accept(first(bytes(flipped)))


@pytest.mark.parametrize(
    "changes", [{"offset": 1 << 63}, {"offset": -(1 << 63) - 1}, {"limit": 1 << 63}, {"limit": 0}]
)
def test_a_range_that_no_message_carries_is_refused(changes):
    with pytest.raises(InvalidArgument, match=f"{next(iter(changes))} is -?[0-9]+, expected"):
        Download("x", **changes)
    with pytest.raises(InvalidArgument):
        GetItem("x", **changes)
    assert Download("x", offset=(1 << 63) - 1).request().range.offset == (1 << 63) - 1
