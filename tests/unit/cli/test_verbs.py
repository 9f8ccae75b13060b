import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from des_proto.v1 import shard_service_pb2

from des.cli.exits import Exit

ABSENT = "DES_20260115_(0000000000FF_FF)"


@pytest.fixture
def name(des, store):
    return des("put", "-", "--meta", "k=two\nlines", stdin=bytes(range(256)) * 4).text.split("  ")[0]


@pytest.fixture
def shards(store):
    now = datetime.now(UTC)
    busy = shard_service_pb2.Shard(
        shard_id=7,
        state=shard_service_pb2.SHARD_STATE_ACTIVE,
        owner_node="n1",
        open_files=1200,
        open_bytes=5 << 20,
        stored_files=30,
        stored_bytes=1 << 30,
        containers=2,
    )
    busy.oldest_open_age.FromTimedelta(timedelta(seconds=75))
    busy.last_seal_time.FromDatetime(now - timedelta(hours=2))
    failing = shard_service_pb2.Shard(
        shard_id=9, state=shard_service_pb2.SHARD_STATE_SEALING, last_error="no space left"
    )
    empty = shard_service_pb2.Shard(shard_id=8, state=shard_service_pb2.SHARD_STATE_ACTIVE)
    store.shards += [busy, empty, failing]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], bytes(range(256)) * 4),
        (["--offset", "1020"], bytes(range(252, 256))),
        (["--offset", "-3"], bytes(range(253, 256))),
        (["--offset", "10", "--limit", "2"], b"\x0a\x0b"),
        (["--limit", "0"], b""),
    ],
)
def test_cat_writes_the_bytes_asked_for(des, name, arguments, expected):
    ran = des("cat", name, *arguments)
    assert (ran.code, ran.out, ran.err) == (Exit.OK, expected, "")


def test_cat_names_what_is_missing_damaged_or_out_of_range(des, store, name):
    assert des("cat", ABSENT).code == Exit.NOT_FOUND
    assert des("cat", name, "--offset", "5000").code == Exit.FAILED
    store.damaged.add(name)
    assert des("cat", name).code == Exit.CORRUPT


def test_cat_ends_quietly_when_its_reader_goes_away(des, store):
    name = des("put", "-", stdin=bytes(4 << 20)).text.split("  ")[0]
    command = subprocess.Popen(
        des.line("cat", name),
        cwd=des.folder,
        env=des.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdout.read(10) == bytes(10)
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait(20) == Exit.BROKEN_PIPE


def test_stat_tells_what_is_known_line_by_line(des, name):
    ran = des("stat", name)
    assert ran.code == Exit.OK
    rows = dict(line.split(maxsplit=1) for line in ran.lines)
    assert rows["name"] == name
    assert rows["size"] == "1,024 bytes (1.0 KiB)"
    assert rows["state"] == "open"
    assert rows["metadata"] == r"k = two\nlines"
    assert rows["created"].endswith(" ago)")


def test_stat_as_json_has_one_object_per_file_and_goes_on_after_a_missing_one(des, name):
    ran = des("stat", ABSENT, name, "--json")
    assert ran.code == Exit.FAILED
    missing, found = ran.records
    assert (missing["name"], missing["reason"]) == (ABSENT, "FILE_NOT_FOUND")
    assert (found["name"], found["size"], found["metadata"]) == (name, 1024, {"k": "two\nlines"})
    assert des("stat", ABSENT).code == Exit.NOT_FOUND


def test_assign_prints_as_many_names_as_asked_for_beyond_the_servers_limit(des, store):
    lines = des("assign", "-n", "1500", "--prefix", "INV").lines
    assert len(set(lines)) == len(lines) == 1500
    assert all(line.startswith("INV_20260115_(") for line in lines)
    assert des("assign", "--json").records[0]["shard"] == 7
    assert des("assign", "-n", "0").code == Exit.USAGE


def test_shards_shows_what_holds_something_with_totals(des, shards):
    ran = des("shards")
    assert ran.code == Exit.OK
    rows = [re.split(r"\s{2,}", line.strip()) for line in ran.lines if line.strip()[:1].isdigit()]
    assert rows == [
        ["7", "1,200", "5.0 MiB", "1m 15s", "30", "1.0 GiB", "2", "2h 0m", "active", "n1"],
        ["9", "-", "-", "-", "-", "-", "-", "-", "sealing", "-"],
        ["2", "1,200", "5.0 MiB", "1m 15s", "30", "1.0 GiB", "2", "2h 0m"],
    ]
    assert ran.lines[-1] == "shard 9: no space left"
    assert len(des("shards", "--all").lines) == len(ran.lines) + 1


def test_shards_as_json_has_one_object_per_shard(des, shards):
    assert [one["shard"] for one in des("shards", "--json").records] == [7, 9]
    (record,) = des("shards", "--json", "8").records
    assert (record["shard"], record["state"], record["oldest_open_age_s"]) == (8, "active", None)
    assert des("shards", "--json").records[0]["oldest_open_age_s"] == 75.0


@pytest.mark.parametrize("arguments", [["--watch", "0.1"], ["--watch=0.1"], ["-w", "0.1", "7"]])
def test_a_watch_looks_again_until_interrupted(des, shards, arguments):
    command = subprocess.Popen(
        des.line("shards", "--json", *arguments), cwd=des.folder, env=des.environment, stdout=subprocess.PIPE
    )
    seen = [command.stdout.readline() for _ in range(5)]
    assert all(b'"shard":' in line for line in seen)
    command.terminate()
    command.communicate()


def test_seal_prints_the_containers_made(des, shards):
    ran = des("seal", "7")
    assert (ran.code, ran.text) == (Exit.OK, "2026-01-15/07/0190.des  1,200 files  5.0 MiB\n")
    assert [one["shard"] for one in des("seal", "--all", "--json").records] == [7]
    assert des("seal", "300").code == Exit.FAILED
    assert des("seal").code == Exit.USAGE
    assert des("seal", "7", "--all").code == Exit.USAGE


def test_version_tells_both_sides_and_misses_an_absent_server(des, server):
    ran = des("version", "--address", server.address, "--json")
    assert ran.code == Exit.OK
    assert ran.records[0]["server"] == "9.8.7"
    absent = des("version", "--address", "127.0.0.1:1")
    assert absent.code == Exit.UNAVAILABLE
    assert absent.lines[0].startswith("des ")
    assert des("version", "--client").code == Exit.OK


@pytest.mark.parametrize("verb", ["cat", "stat", "get"])
def test_a_server_that_is_away_is_no_missing_file(des, verb):
    ran = des(verb, ABSENT, "--address", "127.0.0.1:1")
    assert ran.code == Exit.UNAVAILABLE
    assert ran.err.startswith("des: no DES server answers at 127.0.0.1:1 (Connection refused)")


def test_help_is_quick_and_names_every_verb_and_exit_code(des):
    times = []
    for _ in range(3):
        started = time.monotonic()
        ran = des("--help")
        times.append(time.monotonic() - started)
    assert ran.code == Exit.OK
    for word in ("serve", "put", "get", "cat", "stat", "assign", "shards", "seal", "config", "version"):
        assert f"\n  {word} " in ran.text
    assert "130 interrupted" in ran.text
    # 0.12 s where it was written; room for a busy machine.
    assert min(times) < 0.6


@pytest.mark.parametrize(
    "verb", ["serve", "put", "get", "cat", "stat", "assign", "shards", "seal", "config", "version"]
)
def test_every_verb_explains_itself(des, verb):
    ran = des(verb, "--help")
    assert ran.code == Exit.OK
    assert f"Usage: des {verb}" in ran.text


def test_an_unknown_verb_is_a_usage_error(des):
    ran = des("fetch")
    assert ran.code == Exit.USAGE
    assert "fetch" in ran.err
