"""The text of names, checked against what the origin made."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from des.errors import InvalidInputError
from des.naming import (
    InvalidNameError,
    ParsedName,
    consistent_hash,
    created_ms,
    day_of,
    encode_name,
    parse_name,
)

VECTORS = json.loads((Path(__file__).parents[2] / "golden/origin-v1/names.json").read_text("utf-8"))
DAY_MS = 86_400_000
GOOD = "DES_20260228_(C29C1401FF00_72)"

prefixes = st.text("ABCxyz019", min_size=1, max_size=32)
moments = st.integers(0, 253_402_300_799_999)  # up to the end of the year 9999
bytes_ = st.integers(0, 255)


@pytest.mark.parametrize("row", VECTORS["names"], ids=lambda row: row["name"])
def test_the_origins_names_are_made_parsed_and_sharded_alike(row):
    day = row["day"].replace("-", "")
    name = encode_name("DES", day, row["epoch_ms"], row["node_id"], row["seq"], row["wrap_bits"])
    assert row["name"] == name
    parsed = parse_name(name)
    assert ("DES", day, row["node_id"], row["seq"]) == parsed[:4]
    assert row["epoch_ms"] % (1 << row["wrap_bits"]) == parsed.counter_ms
    assert row["shards"] == {bits: consistent_hash(name, int(bits)) for bits in row["shards"]}


@pytest.mark.parametrize("row", VECTORS["hash"])
def test_the_origins_hash_is_ours(row):
    assert row["shard"] == consistent_hash(row["value"], row["bits"])


def test_a_name_has_the_parts_it_shows():
    assert ParsedName("DES", "20260228", 255, 0, 0xC29C1401, 0x72) == parse_name(GOOD)


@settings(deadline=None)
@given(prefix=prefixes, ms=moments, node_id=bytes_, seq=bytes_, wrap_bits=st.integers(27, 32))
def test_every_name_gives_back_its_parts_and_its_exact_time(prefix, ms, node_id, seq, wrap_bits):
    parsed = parse_name(encode_name(prefix, day_of(ms), ms, node_id, seq, wrap_bits))
    assert (prefix, day_of(ms), node_id, seq) == parsed[:4]
    assert ms == created_ms(parsed, wrap_bits)


@settings(deadline=None)
@given(position=st.integers(14, 28), digit=st.sampled_from("0123456789ABCDEF"))
def test_one_wrong_digit_is_always_refused(position, digit):
    if GOOD[position] in {digit, "_"}:
        return
    with pytest.raises(InvalidNameError, match="checksum"):
        parse_name(GOOD[:position] + digit + GOOD[position + 1 :])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "DES",
        GOOD + "\n",
        " " + GOOD,
        GOOD.lower(),
        GOOD.replace("F", "f"),
        GOOD.replace("DES", ""),
        GOOD.replace("DES", "D-S"),
        GOOD.replace("DES", "D" * 33),
        GOOD.replace("DES", "ŻÓŁ"),
        GOOD.replace("20260228", "20260229"),
        GOOD.replace("20260228", "20261301"),
        GOOD.replace("20260228", "00000000"),
        GOOD.replace("20260228", "2026022٨"),
        GOOD.replace("_72", "_73"),
        GOOD.replace("(", ""),
        GOOD + ".des",
        "../" + GOOD,
        "A" * 100_000,
    ],
)
def test_a_name_outside_the_rules_is_refused_with_what_was_found(name):
    with pytest.raises(InvalidNameError) as caught:
        parse_name(name)
    assert caught.value.reason == "INVALID_NAME"
    assert repr(name[:40])[:-1] in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_day_of_the_calendar_is_known_by_its_text():
    for offset in range(0, 3_652_059, 997):
        day = date.min + timedelta(days=offset)
        text = f"{day.year:04}{day.month:02}{day.day:02}"
        assert text == parse_name(f"A_{text}_(000000000000_00)").day
    assert day_of(951_782_400_000) == "20000229"
    assert day_of(0) == "19700101"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("prefix", ""),
        ("prefix", "a_b"),
        ("prefix", "é"),
        ("day", "20260230"),
        ("day", "2026-2-1"),
        ("day", "+2026021"),
        ("epoch_ms", -1),
        ("node_id", -1),
        ("node_id", 256),
        ("seq", 256),
        ("seq", -1),
        ("wrap_bits", 0),
        ("wrap_bits", 33),
    ],
)
def test_a_name_is_not_made_of_parts_outside_their_range(part, value):
    parts = {"prefix": "DES", "day": "20260228", "epoch_ms": 1, "node_id": 1, "seq": 1, "wrap_bits": 32}
    with pytest.raises(InvalidInputError, match="expected"):
        encode_name(**{**parts, part: value})


@pytest.mark.parametrize("wrap_bits", [1, 8, 26, 33])
def test_wrap_bits_that_do_not_tell_a_days_milliseconds_apart_give_no_time(wrap_bits):
    with pytest.raises(InvalidInputError, match="expected 27 to 32"):
        created_ms(parse_name(GOOD), wrap_bits)


def test_a_counter_that_the_day_does_not_have_gives_no_time():
    start = 1_772_236_800_000  # 2026-02-28
    for ms in (start - 1, start + DAY_MS):
        name = encode_name("DES", "20260228", ms, 0, 0, 32)
        with pytest.raises(InvalidNameError, match="no millisecond of day 20260228"):
            created_ms(parse_name(name), 32)
    with pytest.raises(InvalidNameError, match="no millisecond"):
        created_ms(parse_name(GOOD), 27)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 63))
def test_shards_merge_by_dropping_the_lowest_bit(text, bits):
    assert consistent_hash(text, bits) == consistent_hash(text, bits + 1) >> 1
    assert consistent_hash(text, 0) == 0


def test_a_hash_is_not_taken_of_what_is_no_text_or_with_too_many_bits():
    with pytest.raises(InvalidNameError, match="not valid Unicode"):
        consistent_hash("\ud800", 8)
    for bits in (-1, 65):
        with pytest.raises(InvalidInputError, match="expected 0 to 64"):
            consistent_hash("a", bits)
