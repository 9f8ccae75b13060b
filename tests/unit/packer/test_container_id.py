"""Container ids are UUIDs of version 7 that sort by time."""

import os
import uuid

from des.packer.container_id import make_container_id


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    made = uuid.UUID(make_container_id(1_700_000_000_123, os.urandom))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == 1_700_000_000_123


def test_ids_sort_by_time() -> None:
    ids = [make_container_id(ms, os.urandom) for ms in range(10**12, 10**12 + 50)]
    assert sorted(ids) == ids
    assert len(set(ids)) == 50
