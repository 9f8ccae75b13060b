import hashlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest

from des.cli.exits import Exit

BUSY = (grpc.StatusCode.UNAVAILABLE, "SERVER_BUSY", "try again")
FULL = (grpc.StatusCode.FAILED_PRECONDITION, "SHARD_READ_ONLY", "shard 7 is read only")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_a_file_is_stored_and_its_name_printed_with_its_path(des, store):
    make(des.folder, {"a.txt": b"hello"})
    ran = des("put", "a.txt")
    (name,) = store.files
    assert (ran.code, ran.text, ran.err) == (Exit.OK, f"{name}  a.txt\n", "")
    assert store.files[name].data == b"hello"
    assert store.files[name].spec.content_type == "text/plain"
    assert dict(store.files[name].spec.metadata) == {"path": "a.txt"}


def test_json_tells_all_about_each_file(des, store):
    make(des.folder, {"a.bin": b"123456789"})
    (record,) = des("put", "--json", "a.bin").records
    (name,) = store.files
    assert record == {
        "name": name,
        "path": "a.bin",
        "size": 9,
        "crc32c": "e3069283",
        "sha256": sha256(b"123456789"),
        "shard": len(name),
        "already_existed": False,
    }


def test_a_folder_is_stored_with_paths_relative_to_it(des, store):
    make(des.folder, {"in/a/b.txt": b"b", "in/empty": b"", "in/c.tar.gz": b"z"})
    os.mkfifo(des.folder / "in/pipe")
    (des.folder / "in/link").symlink_to("empty")
    ran = des("put", "in")
    assert ran.code == Exit.OK
    assert sorted(line.split("  ")[1] for line in ran.lines) == ["in/a/b.txt", "in/c.tar.gz", "in/empty"]
    assert "put 3 files, 2 B in" in ran.err
    assert ran.err.endswith("; 1 links skipped; 1 pipes skipped\n")
    assert {one.spec.metadata["path"]: (one.data, one.spec.content_type) for one in store.files.values()} == {
        "a/b.txt": (b"b", "text/plain"),
        "empty": (b"", ""),
        "c.tar.gz": (b"z", "application/gzip"),
    }


def test_stdin_is_stored_under_the_name_and_type_given(des, store):
    name = "DES_20260115_(0000000000FF_FF)"
    options = ["--name", name, "--content-type", "text/csv", "--meta", "source=pipe", "--meta", "k=a=b"]
    ran = des("put", "-", *options, stdin=b"1,2\n")
    assert (ran.code, ran.text) == (Exit.OK, f"{name}  -\n")
    assert store.files[name].data == b"1,2\n"
    assert store.files[name].spec.content_type == "text/csv"
    assert dict(store.files[name].spec.metadata) == {"source": "pipe", "k": "a=b"}


def test_long_files_and_long_streams_arrive_whole_with_the_right_checksums(des, store):
    data = os.urandom(5 << 20)
    make(des.folder, {"big": data})
    records = des("put", "--json", "big", "-", stdin=data).records
    assert sorted((one["path"], one["size"], one["sha256"]) for one in records) == [
        ("-", len(data), sha256(data)),
        ("big", len(data), sha256(data)),
    ]
    assert [one.data == data for one in store.files.values()] == [True, True]


def test_no_path_and_no_content_type_are_left_out_when_asked(des, store):
    make(des.folder, {"a.txt": b"x"})
    assert des("put", "a.txt", "--no-path", "--no-content-type", "--prefix", "INV").code == Exit.OK
    (name,) = store.files
    assert name.startswith("INV_")
    assert not store.files[name].spec.metadata
    assert store.files[name].spec.content_type == ""


def test_odd_names_are_stored_shown_as_one_line_and_kept_exactly(des, store):
    names = [b"two\nlines", b"caf\xe9", "ünï\u202ecode".encode(), b"back\\slash", b"-dash", b" "]
    folder = os.fsencode(des.folder / "in")
    os.mkdir(folder)
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)
    ran = des("put", "in", "--manifest", "m", "--json")
    assert ran.code == Exit.OK
    assert sorted(os.fsencode(one["path"]) for one in ran.records) == sorted(b"in/" + name for name in names)
    kept = {one.data: dict(one.spec.metadata) for one in store.files.values()}
    assert kept[b"two\nlines"] == {"path": "two\nlines"}
    assert kept[b"caf\xe9"] == {"path": "caf\ufffd", "path.b64": "Y2Fm6Q=="}
    assert des("get", "--manifest", "m", "-o", "out").code == Exit.OK
    assert sorted(os.listdir(os.fsencode(des.folder / "out"))) == sorted(names)
    assert len(des("put", "in").lines) == len(names)


def test_a_file_that_fails_does_not_stop_the_rest(des, store):
    make(des.folder, {"in/a": b"1", "in/b": b"2", "in/c": b"3"})
    store.refusals.append(FULL)
    ran = des("put", "in", "gone", "--json")
    assert ran.code == Exit.FAILED
    failed = [one for one in ran.records if "error" in one]
    assert sorted(one["reason"] for one in failed) == ["FAILED", "SHARD_READ_ONLY"]
    assert [one["error"] for one in failed if one["path"] == "gone"] == ["No such file or directory"]
    assert len(store.files) == 2
    assert "put 2 files" in ran.err
    assert "; 2 failed" in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(des, store):
    make(des.folder, {"in/a": b"1", "in/secret": b"2"})
    (des.folder / "in/secret").chmod(0)
    ran = des("put", "in")
    assert ran.code == Exit.FAILED
    assert "des: in/secret: Permission denied\n" in ran.err
    assert len(store.files) == 1


def test_a_name_taken_by_other_content_is_a_conflict_and_by_the_same_is_not(des, store):
    name = "DES_20260115_(0000000000FF_FF)"
    assert des("put", "-", "--name", name, stdin=b"one").code == Exit.OK
    assert des("put", "-", "--name", name, "--json", stdin=b"one").records[0]["already_existed"] is True
    ran = des("put", "-", "--name", name, stdin=b"two")
    assert (ran.code, ran.err) == (Exit.CONFLICT, f"des: -: {name} holds other content\n")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["in", "--name", "N"], "one file"),
        (["-", "-"], "once"),
        (["in", "--resume"], "--manifest"),
        (["in", "--meta", "novalue"], "KEY=VALUE"),
        (["in", "--durability", "hope"], "hope"),
        ([], "PATH"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_before_anything_is_done(des, arguments, hint):
    (des.folder / "in").mkdir()
    ran = des("put", *arguments)
    assert ran.code == Exit.USAGE
    assert hint in ran.err


def test_a_wrong_address_is_told_at_once_and_says_what_to_do(des):
    make(des.folder, {"a": b""})
    started = time.monotonic()
    ran = des("put", "a", "--address", "127.0.0.1:1")
    assert ran.code == Exit.UNAVAILABLE
    assert ran.err.splitlines()[0].startswith("des: no DES server answers at 127.0.0.1:1 (Connection refused")
    assert "--address or DES_ADDRESS" in ran.err
    assert time.monotonic() - started < 15


def test_the_verbs_address_wins_over_the_roots_and_both_over_the_environment(des, server):
    make(des.folder, {"a": b""})
    wrong = {"DES_ADDRESS": "127.0.0.1:1"}
    assert des("--address", server.address, "put", "a", env=wrong).code == Exit.OK
    assert des("--address", "127.0.0.1:1", "put", "a", "--address", server.address, env=wrong).code == Exit.OK


def test_an_import_is_resumed_where_its_manifest_ends(des, store):
    make(des.folder, {f"in/{number}": b"%d" % number for number in range(20)})
    store.refusals += [FULL] * 8
    assert des("put", "in", "--manifest", "m").code == Exit.FAILED
    assert len(store.files) == len((des.folder / "m").read_bytes().splitlines()) == 12
    ran = des("put", "in", "--manifest", "m", "--resume")
    assert ran.code == Exit.OK
    assert "put 8 files" in ran.err
    assert "; 12 stored before" in ran.err
    assert sorted(int(one.data) for one in store.files.values()) == list(range(20))
    assert sorted(line.split("\t")[2] for line in (des.folder / "m").read_text().splitlines()) == sorted(
        str(number) for number in range(20)
    )


def test_two_files_of_one_path_are_not_mixed_up_in_a_manifest(des, store):
    make(des.folder, {"a/x": b"1", "b/x": b"2"})
    ran = des("put", "a", "b", "--manifest", "m")
    assert ran.code == Exit.FAILED
    assert "another file of this run has the path 'x'" in ran.err
    assert len(store.files) == 1


def test_a_busy_server_is_asked_again(des, store):
    make(des.folder, {"a": b"1"})
    store.refusals += [BUSY] * 3
    assert des("put", "a").code == Exit.OK
    assert len(store.files) == 1


def test_an_import_survives_a_restart_of_the_server(des, server, store):
    make(des.folder, {f"in/{number}": b"%d" % number for number in range(300)})
    store.put_gate.clear()
    command = subprocess.Popen(
        des.line("put", "in", "--json"), cwd=des.folder, env=des.environment, stdout=subprocess.PIPE
    )
    while store.puts_seen < 5:
        time.sleep(0.01)
    server.stop()
    store.put_gate.set()
    time.sleep(1)
    server.start()
    out, _ = command.communicate(timeout=60)
    assert [line for line in out.splitlines() if b"error" in line] == []
    assert command.returncode == Exit.OK
    assert len(out.splitlines()) == 300


def test_an_import_stops_when_the_server_stays_away(des, server, store):
    make(des.folder, {f"in/{number}": b"%d" % number for number in range(200)})
    store.put_gate.clear()
    stopper = threading.Timer(0, server.stop)

    def stop_when_busy() -> None:
        while store.puts_seen < 5:
            time.sleep(0.01)
        stopper.start()
        store.put_gate.set()

    threading.Thread(target=stop_when_busy).start()
    ran = des("put", "in", "--retry-for", "0", "--manifest", "m")
    stopper.join()
    assert ran.code == Exit.UNAVAILABLE
    assert "stopped: " in ran.err
    assert "--resume" in ran.err


def test_ctrl_c_ends_an_import_with_a_summary_and_130(des, store):
    make(des.folder, {f"in/{number}": b"%d" % number for number in range(200)})
    store.put_gate.clear()
    command = subprocess.Popen(
        des.line("put", "in", "--manifest", "m"), cwd=des.folder, env=des.environment, stderr=subprocess.PIPE
    )
    while store.puts_seen < 5:
        time.sleep(0.01)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=20)
    assert command.returncode == Exit.INTERRUPTED
    assert err.decode().splitlines()[-1] == "des: interrupted"
    assert "put 0 files" in err.decode()


@pytest.mark.parametrize("path", ["-", "pipe"])
def test_ctrl_c_ends_a_command_that_waits_for_a_silent_stream(des, store, path):
    os.mkfifo(des.folder / "pipe")
    command = subprocess.Popen(
        des.line("put", path, "--json"),
        cwd=des.folder,
        env=des.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(1.2)
    command.send_signal(signal.SIGINT)
    assert command.wait(10) == Exit.INTERRUPTED
    command.communicate()


def test_a_reader_that_goes_away_ends_the_command_quietly(des, store):
    make(des.folder, {f"in/{number}": b"%d" % number for number in range(50)})
    command = subprocess.Popen(
        des.line("put", "in", "--json"),
        cwd=des.folder,
        env=des.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    command.stdout.close()
    err = command.stderr.read().decode()
    command.stderr.close()
    assert command.wait(20) == Exit.BROKEN_PIPE
    assert "Traceback" not in err
