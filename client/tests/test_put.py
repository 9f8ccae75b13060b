"""Storing files: messages and what they say."""

import pytest
from des_client import (
    Durability,
    FileState,
    InvalidArgument,
)
from stored_puts import BIG, MIB, content, puts


def test_a_small_file_is_one_message_and_one_call(des, double):
    result = des.put(b"hello", content_type="text/plain", metadata={"owner": "me"})
    (message,) = puts(double)
    assert message.finish
    assert message.spec.size_bytes == 5
    assert message.chunk.data == b"hello"
    assert message.chunk.crc32c == message.checksums.crc32c == 0x9A71BB4C
    assert dict(double.calls) == {"PutFile": 1}
    assert result.file.content_type == "text/plain"
    assert result.file.metadata == {"owner": "me"}
    assert result.file.crc32c == 0x9A71BB4C
    assert result.file.state is FileState.OPEN
    assert result.file.create_time.isoformat() == "2026-01-15T12:00:00.123000+00:00"
    assert result.file.seal_time is None
    assert result.durability is Durability.LOCAL
    assert not result.already_existed


def test_exactly_one_mebibyte_is_still_one_message(des, double):
    des.put(bytes(MIB))
    assert len(puts(double)) == 1


def test_a_longer_file_comes_in_mebibytes_with_the_checksum_last(des, double):
    result = des.put(BIG)
    messages = puts(double)
    assert [len(one.chunk.data) for one in messages] == [MIB, MIB, len(BIG) - 2 * MIB]
    assert [one.write_offset for one in messages] == [0, MIB, 2 * MIB]
    assert [one.finish for one in messages] == [False, False, True]
    assert [one.HasField("spec") for one in messages] == [True, False, False]
    assert [one.checksums.HasField("crc32c") for one in messages] == [False, False, True]
    assert messages[0].spec.size_bytes == len(BIG)
    assert content(double, result) == BIG


def test_messages_are_sized_by_the_servers_limits(des, double):
    double.limits.preferred_chunk_bytes = 300_000
    double.limits.max_chunk_bytes = 200_000
    result = des.put(BIG)
    assert max(len(one.chunk.data) for one in puts(double)) == 200_000
    assert double.calls["GetServerInfo"] == 1
    des.put(BIG[:150_000])
    assert double.calls["GetServerInfo"] == 1
    assert content(double, result) == BIG


def test_a_server_that_takes_less_than_a_mebibyte_is_believed_after_its_refusal(des, double):
    double.limits.preferred_chunk_bytes = 100_000
    double.limits.max_chunk_bytes = 100_000
    result = des.put(BIG[:900_000])
    assert content(double, result) == BIG[:900_000]
    assert dict(double.calls) == {"PutFile": 2, "GetServerInfo": 1}


def test_a_server_without_server_info_gets_the_defaults(des, double):
    double.fail("GetServerInfo", code="UNIMPLEMENTED")
    assert content(double, des.put(BIG)) == BIG


def test_without_verify_no_checksum_is_sent(make_client, double):
    des = make_client(verify=False)
    des.put(b"hello")
    des.put(BIG)
    assert not any(one.chunk.HasField("crc32c") or one.HasField("checksums") for one in puts(double))


@pytest.mark.parametrize(
    "spec",
    [
        {"name": ""},
        {"name": "X_1", "prefix": "P"},
        {"name": "\ud800"},
        {"prefix": "\udfff"},
        {"metadata": {"key": "\ud800"}},
        {"metadata": {"\ud800": "value"}},
        {"content_type": "\ud800"},
        {"durability": Durability.UNKNOWN},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"size": -1},
    ],
)
def test_bad_arguments_are_refused_before_any_call(des, double, spec):
    with pytest.raises(InvalidArgument):
        des.put(b"x", **spec)
    assert not double.calls


def test_odd_but_legal_metadata_arrives_unchanged(des):
    odd = {"empty": "", "nul": "\0", "wide": "🗄\u202e", "line": "a\r\nb", "": "no key", "long": "x" * 5000}
    result = des.put(b"x", metadata=odd)
    assert des.stat(result.file.name).metadata == odd


def test_metadata_of_a_wrong_type_is_a_type_error(des):
    with pytest.raises(TypeError):
        des.put(b"x", metadata={"key": 5})
