"""What a container's object says of itself reads back as the row it was made from."""

from dataclasses import replace

import pytest

from des.packer.object_metadata import BadObjectMetadataError, decode_metadata, encode_metadata
from des.testing.catalog_rows import container_row


def test_it_reads_back():
    row = container_row()
    facts = decode_metadata(encode_metadata(row))
    assert (row.container_id, row.sha256, row.epoch, row.run, row.node) == (
        facts.container_id,
        facts.sha256,
        facts.epoch,
        facts.run,
        facts.node,
    )
    assert (row.name_ms_first, row.name_ms_last, row.data_bytes) == (
        facts.name_ms_first,
        facts.name_ms_last,
        facts.data_bytes,
    )


def test_a_digest_that_was_not_known_is_left_out():
    metadata = encode_metadata(replace(container_row(), sha256=""))
    assert "des-sha256" not in metadata
    assert not decode_metadata(metadata).sha256


@pytest.mark.parametrize("key", sorted({*encode_metadata(container_row())} - {"des-sha256"}))
def test_a_missing_part_is_named(key):
    metadata = encode_metadata(container_row())
    del metadata[key]
    with pytest.raises(BadObjectMetadataError, match=key):
        decode_metadata(metadata)


@pytest.mark.parametrize("shards", ["", "1", "1+3/8", "1+1", "0+512/8", "a+1/8"])
def test_a_malformed_run_is_refused(shards):
    with pytest.raises(BadObjectMetadataError):
        decode_metadata({**encode_metadata(container_row()), "des-shards": shards})
