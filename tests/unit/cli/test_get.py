import hashlib
import os
from pathlib import Path

from des.cli.exits import Exit

ABSENT = "DES_20260115_(0000000000FF_FF)"


def put(des, data: bytes) -> str:
    ran = des("put", "-", stdin=data)
    assert ran.code == Exit.OK
    return ran.text.split("  ")[0]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_fetched_under_its_name_or_where_the_user_wants_it(des, store):
    name = put(des, b"hello")
    ran = des("get", name)
    assert (ran.code, ran.text, ran.err) == (Exit.OK, f"{name}  {name}\n", "")
    assert des("get", name, "-o", "x/y.txt").text == f"{name}  x/y.txt\n"
    (des.folder / "there").mkdir()
    assert des("get", name, "-o", "there").code == Exit.OK
    assert tree(des.folder) == {name: b"hello", "x/y.txt": b"hello", f"there/{name}": b"hello"}
    assert des("get", name, "-o", "-").out == b"hello"


def test_several_files_go_into_a_folder_and_a_missing_one_does_not_stop_them(des, store):
    names = [put(des, b"1"), put(des, b"2")]
    ran = des("get", *names, ABSENT, "-o", "out", "--json")
    assert ran.code == Exit.FAILED
    assert tree(des.folder / "out") == {names[0]: b"1", names[1]: b"2"}
    (missing,) = [one for one in ran.records if "error" in one]
    assert missing == {
        "path": ABSENT,
        "name": ABSENT,
        "error": f"no file '{ABSENT}'",
        "reason": "FILE_NOT_FOUND",
    }
    assert {one["sha256"] for one in ran.records if "sha256" in one} == {
        hashlib.sha256(data).hexdigest() for data in (b"1", b"2")
    }
    assert "got 2 files, 2 B" in ran.err


def test_when_all_fail_for_one_cause_the_exit_code_names_it(des, store):
    name = put(des, b"1")
    store.damaged.add(name)
    assert des("get", ABSENT).code == Exit.NOT_FOUND
    ran = des("get", name)
    assert (ran.code, ran.err) == (Exit.CORRUPT, f"des: {name}: {name} is damaged\n")
    assert os.listdir(des.folder) == []


def test_a_failed_fetch_keeps_the_file_that_was_there(des, store):
    name = put(des, b"new")
    store.damaged.add(name)
    (des.folder / "x").write_bytes(b"old")
    assert des("get", name, "-o", "x").code == Exit.CORRUPT
    assert tree(des.folder) == {"x": b"old"}


def test_a_manifest_brings_a_folder_back_byte_for_byte(des, store):
    source = des.folder / "in"
    files = {"a/b/c.txt": b"deep", "empty": b"", "big": os.urandom(3 << 20), "sp ace\n.txt": b"odd"}
    for path, data in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    assert des("put", "in", "--manifest", "m").code == Exit.OK
    ran = des("get", "--manifest", "m", "-o", "out")
    assert ran.code == Exit.OK
    assert tree(des.folder / "out") == files
    (des.folder / "out/empty").write_bytes(b"changed")
    (des.folder / "out/big").unlink()
    again = des("get", "--manifest", "m", "-o", "out")
    assert tree(des.folder / "out") == files
    assert "got 2 files" in again.err
    assert "2 there already" in again.err


def test_bytes_that_differ_from_the_manifest_are_not_kept(des, store):
    name = put(des, b"stored")
    (des.folder / "m").write_text(f"{name}\t{'00' * 32}\tx\n")
    ran = des("get", "--manifest", "m", "-o", "out", "--json")
    assert ran.code == Exit.CORRUPT
    assert ran.records[0]["reason"] == "SHA256_MISMATCH"
    assert tree(des.folder / "out") == {}


def test_a_manifest_cannot_lead_out_of_the_folder(des, store):
    name = put(des, b"evil")
    sha256 = hashlib.sha256(b"evil").hexdigest()
    (des.folder / "out").mkdir()
    (des.folder / "out/link").symlink_to("..")
    paths = ["../up", str(des.folder / "absolute"), "a/../../up", "link/through", "good"]
    (des.folder / "m").write_text("".join(f"{name}\t{sha256}\t{path}\n" for path in paths))
    ran = des("get", "--manifest", "m", "-o", "out", "--json")
    assert ran.code == Exit.FAILED
    assert sorted(one["path"] for one in ran.records if "error" in one) == sorted(paths[:4])
    assert sorted(os.listdir(des.folder)) == ["m", "out"]
    assert (des.folder / "out/good").read_bytes() == b"evil"


def test_a_command_line_that_makes_no_sense_is_refused(des):
    assert des("get").code == Exit.USAGE
    assert des("get", "name", "--manifest", "m").code == Exit.USAGE
    assert des("get", "--manifest", "none").code == Exit.USAGE
    assert des("get", "name", "-o", "-", "--json").code == Exit.USAGE
