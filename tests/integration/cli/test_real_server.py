"""The command against the real server: both are processes of their own, as a user runs them."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from des.cli.exits import Exit


class Command:
    """Runs `des` against one server."""

    def __init__(self, folder, address):
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("DES_")}
        self.environment["DES_ADDRESS"] = address

    def line(self, *args):
        return [sys.executable, "-m", "des.cli", *map(str, args)]

    def __call__(self, *args, stdin=b""):
        return subprocess.run(
            self.line(*args),
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.environment,
            timeout=100,
            check=False,
        )


@pytest.fixture
def des(server, tmp_path):
    return Command(tmp_path, server.address)


def records(ran):
    return [json.loads(line) for line in ran.stdout.splitlines()]


def make_tree(folder: Path, count: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(count):
        path = folder / f"{number % 7}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 5000])))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_the_same_from_open_files_and_from_containers(des, tmp_path):
    make_tree(tmp_path / "in", 200, seed=1)
    # Longer than big_file_bytes and than anything that fits one message.
    (tmp_path / "in/big").write_bytes(random.Random(2).randbytes(20 << 20))
    assert des("put", "in", "--manifest", "m").returncode == Exit.OK
    assert des("get", "--manifest", "m", "-o", "open").returncode == Exit.OK
    assert tree(tmp_path / "open") == tree(tmp_path / "in")
    sealed = des("seal", "--all", "--json")
    assert sealed.returncode == Exit.OK
    assert sum(one["files"] for one in records(sealed)) == 201
    assert des("get", "--manifest", "m", "-o", "stored").returncode == Exit.OK
    assert tree(tmp_path / "stored") == tree(tmp_path / "in")
    shards = records(des("shards", "--json"))
    assert sum(one["stored_files"] for one in shards) == 201
    assert sum(one["open_files"] for one in shards) == 0


def test_one_file_through_every_verb(des):
    (name,) = des("assign").stdout.decode().split()
    assert des("stat", name).returncode == Exit.NOT_FOUND
    stored = des("put", "-", "--name", name, "--content-type", "text/x", "--meta", "k=v", stdin=b"0123456789")
    assert stored.returncode == Exit.OK, stored.stderr
    assert des("cat", name).stdout == b"0123456789"
    assert des("cat", name, "--offset", "-3", "--limit", "2").stdout == b"78"
    (told,) = records(des("stat", "--json", name))
    assert (told["size"], told["content_type"], told["metadata"]) == (10, "text/x", {"k": "v"})
    assert des("put", "-", "--name", name, stdin=b"other").returncode == Exit.CONFLICT
    assert des("get", name, "-o", "-").stdout == b"0123456789"
    assert des("version").returncode == Exit.OK


def test_names_that_are_none_are_refused_and_empty_files_are_files(des):
    assert des("cat", "no-name").returncode == Exit.FAILED
    (stored,) = records(des("put", "-", "--json"))
    assert stored["size"] == 0
    assert des("cat", stored["name"]).stdout == b""
    assert des("get", stored["name"], "-o", "empty").returncode == Exit.OK
    assert (des.folder / "empty").read_bytes() == b""


def test_an_import_goes_on_through_kill_9_of_the_server_and_loses_nothing(des, server, tmp_path):
    make_tree(tmp_path / "in", 1500, seed=3)
    importing = subprocess.Popen(
        des.line("put", "in", "--manifest", "m"), cwd=tmp_path, env=des.environment, stdout=subprocess.DEVNULL
    )
    manifest = tmp_path / "m"
    while not (manifest.exists() and manifest.stat().st_size > 20_000):
        assert importing.poll() is None
        time.sleep(0.01)
    server.kill()
    time.sleep(0.5)
    server.start()
    assert importing.wait(100) == Exit.OK
    assert des("get", "--manifest", "m", "-o", "out").returncode == Exit.OK
    assert tree(tmp_path / "out") == tree(tmp_path / "in")


def test_an_interrupted_import_is_resumed_by_hand(des, server, tmp_path):
    make_tree(tmp_path / "in", 600, seed=4)
    importing = subprocess.Popen(
        des.line("put", "in", "--manifest", "m"), cwd=tmp_path, env=des.environment, stdout=subprocess.DEVNULL
    )
    manifest = tmp_path / "m"
    while not (manifest.exists() and manifest.stat().st_size > 5_000):
        time.sleep(0.01)
    importing.kill()
    importing.wait(20)
    assert des("put", "in", "--manifest", "m", "--resume").returncode == Exit.OK
    assert len(manifest.read_bytes().splitlines()) == 600
    assert des("get", "--manifest", "m", "-o", "out").returncode == Exit.OK
    assert tree(tmp_path / "out") == tree(tmp_path / "in")


def test_files_are_found_and_deleted(des, tmp_path):
    make_tree(tmp_path / "in", 50, seed=4)
    assert des("put", "in", "--prefix", "FND").returncode == Exit.OK
    assert des("put", "-", "--prefix", "OTH", stdin=b"x").returncode == Exit.OK
    found = des("find", "--prefix", "FND").stdout.decode().split()
    assert len(found) == 50
    day = f"{found[0][4:8]}-{found[0][8:10]}-{found[0][10:12]}"
    assert len(des("find", "--day", day).stdout.splitlines()) == 51
    assert len(des("find", "--day", "2020-01-01").stdout.splitlines()) == 0
    assert len(des("find", "--limit", "7", "--long").stdout.splitlines()) == 7
    (one,) = [one for one in records(des("find", "--json")) if one["name"] == found[0]]
    assert one["metadata"]["path"]
    assert des("seal", "--all").returncode == Exit.OK
    # A store on one disk promises no more than that disk.
    waited = des("wait", "-", stdin="\n".join(found).encode())
    assert (waited.returncode, b"is not served by this store" in waited.stderr) == (Exit.FAILED, True)
    assert des("find", "--after", "2099-01-01").stdout == b""
    assert des("find", "--after", "soon").returncode == Exit.USAGE
    gone = des("rm", "-", "missing", stdin="\n".join(found).encode())
    assert gone.returncode == Exit.FAILED
    assert b"deleted 50 files; 1 failed" in gone.stderr
    assert des("find", "--prefix", "FND").stdout == b""
    assert des("rm", found[0]).returncode == Exit.NOT_FOUND
    assert des("rm", "-f", found[0]).returncode == Exit.OK
    assert des("get", found[0]).returncode == Exit.NOT_FOUND


def test_a_watch_shows_changes_as_the_server_tells_of_them(des, tmp_path):
    command = subprocess.Popen(
        des.line("shards", "--watch", "--json", "--all"),
        cwd=tmp_path,
        env=des.environment,
        stdout=subprocess.PIPE,
    )
    try:
        shards = [json.loads(command.stdout.readline()) for _ in range(256)]
        assert sum(one["open_files"] for one in shards) == 0
        assert des("put", "-", stdin=b"x").returncode == Exit.OK
        # The next line comes because something changed.
        assert json.loads(command.stdout.readline())["open_files"] == 1
    finally:
        command.terminate()
        command.communicate()
