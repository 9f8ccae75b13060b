"""Keys say what their objects are; whatever is not surely ours is foreign."""

import pytest

from des.upkeep.object_keys import ObjectKind, parse_key

CONTAINER = "20260115/0a/0193a000-0000-7000-8000-000000000001.des"


def test_a_container_and_a_big_file_are_taken_apart():
    container = parse_key(f"archive/{CONTAINER}", prefix="archive/")
    assert (container.kind, container.day, container.shard, container.name) == (
        ObjectKind.CONTAINER,
        "20260115",
        10,
        "0193a000-0000-7000-8000-000000000001",
    )
    big = parse_key("20260115/0a/_bigFiles/DES_20260115_(0000000000FF_FF).0badcafe")
    assert (big.kind, big.name) == (ObjectKind.BIG_FILE, "DES_20260115_(0000000000FF_FF)")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("_log/0193a000/1/7.dlog", ObjectKind.LOG_SEGMENT),
        ("des-store-id", ObjectKind.STORE_ID),
        ("20260115/0a/_bigFiles/x.0badcafe", ObjectKind.BIG_FILE),
        ("20260115/0a/_bigFiles/x", ObjectKind.FOREIGN),
        ("20260115/0a/0193a000-0000-4000-8000-000000000001.des", ObjectKind.FOREIGN),
        ("20260115/0A/0193a000-0000-7000-8000-000000000001.des", ObjectKind.FOREIGN),
        (f"x/{CONTAINER}", ObjectKind.FOREIGN),
        (f"{CONTAINER}.bak", ObjectKind.FOREIGN),
        ("", ObjectKind.FOREIGN),
    ],
)
def test_kinds(key, kind):
    assert kind is parse_key(key).kind


def test_under_another_prefix_everything_is_foreign():
    assert parse_key(CONTAINER, prefix="archive").kind is ObjectKind.FOREIGN
