"""The verbs that look after a store, as processes, over a store that a real node left behind."""

import json
import os
import subprocess
import sys

import google_crc32c
import pytest

from des.cli.exits import Exit
from des.config import load_settings
from des.files import FileSpec
from des.node import Node


@pytest.fixture
async def data_dir(tmp_path):
    folder = tmp_path / "data"
    node = await Node.open(load_settings(data_dir=folder, shard_bits=1))
    for number in range(9):
        data = bytes([number]) * 1000
        await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
    for shard in range(2):
        await node.seal_shard(shard)
    await node.close()
    return folder


def des(data_dir, *args):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DES_")}
    return subprocess.run(
        [sys.executable, "-m", "des.cli", *args, "--data-dir", data_dir, "--set", "shard_bits=1"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )


def container_of(data_dir):
    [path] = (data_dir / "objects").rglob("*.des")
    return path


def test_shards_of_a_store_that_one_node_has_are_shown_and_follow_the_setting(data_dir):
    shown = des(data_dir, "shard-bits", "--json")
    assert json.loads(shown.stdout) == {
        "shard_bits": 1,
        "changes": 0,
        "next_shard_bits": None,
        "next_time": None,
    }
    asked = des(data_dir, "shard-bits", "3")
    assert asked.returncode == Exit.USAGE
    assert "change its setting shard_bits" in asked.stderr


def test_a_sound_store_is_sound_and_has_no_garbage(data_dir):
    checked = des(data_dir, "fsck", "--read-data", "--json")
    assert (checked.returncode, checked.stderr) == (Exit.OK, "")
    assert json.loads(checked.stdout) == {
        "containers": 1,
        "files": 9,
        "size": container_of(data_dir).stat().st_size,
        "objects": json.loads(checked.stdout)["objects"],
        "problems": 0,
        "notes": 0,
    }
    collected = des(data_dir, "gc", "--apply")
    assert (collected.returncode, collected.stdout) == (Exit.OK, "")
    assert "0 objects deleted" in collected.stderr
    recovered = des(data_dir, "recover")
    assert (recovered.returncode, recovered.stdout) == (Exit.OK, "")


def test_a_damaged_container_is_corrupt_and_a_lost_one_missing(data_dir):
    path = container_of(data_dir)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    damaged = des(data_dir, "fsck", "--read-data")
    assert damaged.returncode == Exit.CORRUPT
    path.unlink()
    lost = des(data_dir, "fsck")
    assert lost.returncode == Exit.FAILED
    assert "missing" in lost.stderr


def test_a_lost_catalog_comes_back(data_dir):
    for path in data_dir.glob("catalog.sqlite*"):
        path.unlink()
    nothing = des(data_dir, "fsck")
    assert (nothing.returncode, "no store at" in nothing.stderr) == (Exit.NOT_FOUND, True)
    rebuilt = des(data_dir, "rebuild-catalog", "--json")
    assert rebuilt.returncode == Exit.OK
    assert json.loads(rebuilt.stdout)["files"] == 9
    assert des(data_dir, "fsck", "--read-data").returncode == Exit.OK


def test_a_subset_that_is_none_is_refused(data_dir):
    assert des(data_dir, "fsck", "--read-data-subset", "4/3").returncode == Exit.USAGE
