"""Codecs give back exactly what was compressed, and refuse everything else within bounded memory."""

import json
import random
import tracemalloc

import google_crc32c
import pytest
import zstandard

from des.format.compression import (
    CODEC_MAX,
    CODEC_RAW,
    CODEC_ZSTD,
    COMPRESSED_RAW_LENGTH_MAX,
    DICTIONARY_LENGTH_MAX,
    BadCompressionError,
    Dictionary,
    decompress,
    plain_compressor,
)
from des.format.compressor import (
    DICTIONARY_LENGTH_WRITTEN_MAX,
    SAMPLE_BYTES_MAX,
    SAMPLE_BYTES_TOTAL_MAX,
    SAMPLE_LENGTH_MAX,
    Compressor,
    Samples,
    is_packed,
)
from des.format.dictionaries import (
    DICTIONARY_COUNT_MAX,
    DIRECTORY_SIZE,
    Dictionaries,
    Directory,
    encode_dictionaries,
)
from des.format.header import HEADER, HEADER_SIZE
from des.format.reads import run

TEXT = b"what a log says, it says often; " * 40


def documents(count, seed=1):
    chance = random.Random(seed)
    return [
        json.dumps(
            {
                "id": number,
                "customer": f"customer-{chance.randrange(10**6)}",
                "email": f"user{number}@example.org",
                "tags": chance.sample(["alpha", "beta", "gamma", "delta", "epsilon"], 3),
                "score": chance.random(),
            }
        ).encode()
        for number in range(count)
    ]


def trained(files, kind="application/json"):
    samples = Samples.choose((kind, len(data)) for data in files)
    return Compressor.train(samples, {place: files[place] for place in samples.places})


def read(compressor, codec, stored, raw_length, dictionaries=None):
    """Decompress as a reader does, from a container that has nothing but ZDICT."""
    container = HEADER + compressor.section
    dictionaries = dictionaries or Dictionaries(len(container))
    plan = dictionaries.decompress(stored, codec=codec, raw_length=raw_length)
    return run(plan, lambda wanted: container[wanted.start : wanted.stop])


# --- one frame ------------------------------------------------------------------------------------


def test_a_frame_gives_its_bytes_back():
    stored = plain_compressor().compress(TEXT)
    assert decompress(stored, raw_length=len(TEXT), dictionary=None) == TEXT


def test_a_frame_carries_its_length_and_nothing_the_container_has_already():
    parameters = zstandard.get_frame_parameters(plain_compressor().compress(TEXT))
    assert (parameters.content_size, parameters.has_checksum, parameters.dict_id) == (len(TEXT), False, 0)


@pytest.mark.parametrize("raw_length", [0, 1, len(TEXT) - 1, len(TEXT) + 1, COMPRESSED_RAW_LENGTH_MAX + 1])
def test_a_frame_of_another_length_is_refused(raw_length):
    stored = plain_compressor().compress(TEXT)
    with pytest.raises(BadCompressionError):
        decompress(stored, raw_length=raw_length, dictionary=None)


def _without_content_size(data, **parameters):
    made = zstandard.ZstdCompressor(write_content_size=False, **parameters).compressobj()
    return made.compress(data) + made.flush()


BOMB = bytes(64 << 20)
SKIPPABLE = b"\x50\x2a\x4d\x18" + (1000).to_bytes(4, "little") + bytes(1000)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x28\xb5\x2f\xfd",
        b"no frame at all",
        _without_content_size(TEXT),
        zstandard.ZstdCompressor().compress(BOMB),
        _without_content_size(BOMB),
        SKIPPABLE[:100],
        zstandard.ZstdCompressor().compress(TEXT) * 2,
        zstandard.ZstdCompressor().compress(TEXT) + b"\0",
        zstandard.ZstdCompressor().compress(TEXT)[:-1],
        # Says 1,288 bytes, holds fewer.
        zstandard.ZstdCompressor().compress(TEXT)[:5] + zstandard.ZstdCompressor().compress(TEXT[:-9])[5:],
        # A window of 2 GiB for a few bytes.
        b"\x28\xb5\x2f\xfd\x80\xa8" + len(TEXT).to_bytes(4, "little") + b"\x01\x00\x00",
    ],
    ids=range(12),
)
def test_what_is_no_sound_frame_is_refused_within_bounded_memory(stored):
    tracemalloc.start()
    try:
        with pytest.raises(BadCompressionError):
            decompress(stored, raw_length=len(TEXT), dictionary=None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_damaged_frame_is_refused_or_has_the_length_expected(mask):
    """Its content is proven by the container's checksum."""
    stored = plain_compressor().compress(TEXT)
    for place in range(len(stored)):
        damaged = bytearray(stored)
        damaged[place] ^= mask
        try:
            assert len(decompress(bytes(damaged), raw_length=len(TEXT), dictionary=None)) == len(TEXT)
        except BadCompressionError:
            continue


# --- dictionaries ---------------------------------------------------------------------------------


def test_trained_dictionaries_halve_small_documents_again():
    files = documents(3000)
    compressor = trained(files)
    plain = sum(len(Compressor().compress(data)[1]) for data in files)
    small = len(compressor.section)
    small += sum(len(compressor.compress(data, "application/json")[1]) for data in files)
    assert small < plain / 1.8


def test_files_compressed_with_a_dictionary_come_back():
    files = documents(2000)
    compressor = trained(files)
    dictionaries = Dictionaries(HEADER_SIZE + len(compressor.section))
    for data in documents(50, seed=2):
        codec, stored = compressor.compress(data, "application/json; charset=utf-8")
        assert codec > CODEC_ZSTD
        assert read(compressor, codec, stored, len(data), dictionaries) == data
    assert 0 < dictionaries.memory_bytes < 3 * DICTIONARY_LENGTH_MAX


def test_the_same_files_give_the_same_dictionaries_and_bytes():
    files = documents(2000)
    first, second = trained(files), trained(list(files))
    assert first.section == second.section
    assert [first.compress(data) for data in files] == [second.compress(data) for data in files]


def test_each_content_type_with_enough_files_has_its_own_dictionary():
    one, other = (
        documents(1000),
        [f"<p>{number} &middot; {TEXT[:300]}</p>".encode() for number in range(1000)],
    )
    files = [*((data, "application/json") for data in one), *((data, "text/html") for data in other)]
    samples = Samples.choose((kind, len(data)) for data, kind in files)
    assert {kind for kind, _, _ in samples.groups} == {"application/json", "text/html"}
    compressor = Compressor.train(samples, {place: files[place][0] for place in samples.places})
    codecs = {kind: compressor.compress(data, kind)[0] for data, kind in (files[0], files[-1])}
    assert len(set(codecs.values())) == 2
    for data, kind in (files[0], files[-1]):
        codec, stored = compressor.compress(data, kind)
        assert read(compressor, codec, stored, len(data)) == data


def test_rare_types_share_one_dictionary():
    files = [(f"application/x-{number % 40}", 400) for number in range(800)]
    samples = Samples.choose(files)
    assert [kind for kind, _, _ in samples.groups] == [""]


def test_never_more_dictionaries_than_slots():
    samples = Samples.choose((f"text/x-{number % 50}", 1000) for number in range(50 * 100))
    assert len(samples.groups) == DICTIONARY_COUNT_MAX
    assert CODEC_MAX == 15


@pytest.mark.parametrize("files", [[], [b""] * 100, documents(5), documents(20)])
def test_too_little_to_learn_from_gives_no_dictionary(files):
    assert trained(files).section == b""


def test_noise_gives_no_dictionary():
    chance = random.Random(3)
    assert trained([chance.randbytes(1000) for _ in range(500)], "application/octet-stream").section == b""


def test_samples_are_bounded_and_spread_over_all_files():
    files = [("text/plain", 200_000)] * 10_000
    samples = Samples.choose(files)
    [(_, places, total)] = samples.groups
    assert total == 200_000 * 10_000
    assert len(places) * SAMPLE_LENGTH_MAX <= SAMPLE_BYTES_MAX + SAMPLE_LENGTH_MAX
    assert places[-1] > 9000
    many = Samples.choose((f"text/x-{number % 20}", 1000) for number in range(200_000))
    assert len(many.places) * 1000 <= SAMPLE_BYTES_TOTAL_MAX + 20 * 1000


def test_long_empty_packed_and_external_files_are_no_samples():
    samples = Samples.choose(
        [("text/plain", 1 << 20), ("text/plain", 0), ("image/png", 5000), ("text/plain", -1)] * 100
    )
    assert samples.groups == ()


# --- what is compressed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"short", random.Random(4).randbytes(5000), bytes(COMPRESSED_RAW_LENGTH_MAX + 1)],
    ids=range(4),
)
def test_what_gains_little_stays_as_it_is(data):
    codec, stored = Compressor().compress(data)
    assert codec == CODEC_RAW
    assert stored is data


def test_packed_types_are_not_tried():
    assert Compressor().compress(TEXT, "image/png") == (CODEC_RAW, TEXT)
    assert not is_packed("image/svg+xml")
    assert not is_packed("audio/wav")
    assert is_packed("audio/mpeg")


def test_a_file_of_several_blocks_must_gain_half_to_lose_its_ranges():
    chance = random.Random(5)
    half = bytes(chance.choice(b"0123456789abcdefghijklmnopqrstuv") for _ in range(1 << 20))
    assert Compressor().compress(half)[0] == CODEC_ZSTD
    assert Compressor().compress(half + half[:1] + chance.randbytes(1 << 20))[0] == CODEC_RAW
    assert Compressor().compress(TEXT * 1000)[0] == CODEC_ZSTD


# --- ZDICT ----------------------------------------------------------------------------------------


def dictionary(seed=0, length=4096):
    return zstandard.train_dictionary(length, documents(500, seed)).as_bytes()


def container(*dictionaries):
    return HEADER + encode_dictionaries(dictionaries)


def load(data, slot, data_start=None):
    seen = []

    def read_range(wanted):
        seen.append(wanted)
        return data[wanted.start : wanted.stop]

    found = Dictionaries(len(data) if data_start is None else data_start)
    return run(found.read(slot), read_range), seen


def test_one_read_brings_a_dictionary_and_none_brings_it_again():
    first, second = dictionary(1), dictionary(2)
    data = container(first, second)
    found, seen = load(data, 3)
    assert (found.data, len(seen)) == (second, 1)


def test_a_dictionary_far_behind_costs_a_second_read_of_it_alone():
    chance = random.Random(6)
    large = zstandard.train_dictionary(
        DICTIONARY_LENGTH_WRITTEN_MAX,
        [chance.choice(documents(50)) + chance.randbytes(300) for _ in range(3000)],
    ).as_bytes()
    data = container(large, dictionary(1), large)
    found, seen = load(data, 4)
    assert found.data == large
    assert [wanted.size for wanted in seen][1:] == [len(large)]


@pytest.mark.parametrize("slot", [4, 15])
def test_a_slot_without_a_dictionary_is_refused(slot):
    with pytest.raises(BadCompressionError, match=f"needs dictionary {slot}"):
        load(container(dictionary(1), dictionary(2)), slot)


def test_a_container_without_dictionaries_is_refused_without_a_read():
    with pytest.raises(BadCompressionError, match="has none"):
        load(HEADER, 2)


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_any_damaged_byte_of_a_dictionary_or_its_directory_is_refused(mask):
    data = container(dictionary(1, 1024))
    for place in range(HEADER_SIZE, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= mask
        with pytest.raises(BadCompressionError):
            load(bytes(damaged), 2)


@pytest.mark.parametrize(
    ("lengths", "data_start"),
    [
        ((), 400),
        ((0,), 400),
        ((DICTIONARY_LENGTH_MAX + 1,), 400),
        ((100,), 400),
        ((100,), 141),
        ((400,), 139),
    ],
)
def test_a_directory_that_cannot_be_is_refused(lengths, data_start):
    data = HEADER + Directory(lengths, (0,) * len(lengths)).encode() + bytes(300)
    with pytest.raises(BadCompressionError):
        load(data, 2, data_start)


def test_bytes_with_a_right_checksum_that_are_no_dictionary_are_refused():
    data = HEADER + Directory((300,), (google_crc32c.value(bytes(300)),)).encode() + bytes(300)
    with pytest.raises(BadCompressionError, match="no zstd"):
        load(data, 2)


def test_another_dictionary_gives_an_error_or_bytes_that_the_checksum_refuses():
    files = documents(2000)
    compressor = trained(files)
    _, stored = compressor.compress(files[0], "application/json")
    try:
        data = decompress(stored, raw_length=len(files[0]), dictionary=Dictionary(dictionary(9)))
    except BadCompressionError:
        return
    assert data != files[0]


def test_the_directory_has_the_size_documented():
    assert len(encode_dictionaries([dictionary(1, 1024)])) == DIRECTORY_SIZE + 1024
    assert encode_dictionaries([]) == b""
