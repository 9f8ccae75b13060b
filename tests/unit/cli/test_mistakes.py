"""What users get wrong, and what they are told."""

import re
import subprocess

import pytest

from des.cli.exits import Exit


def test_an_address_without_a_port_is_a_mistake_and_not_a_server_that_is_away(des):
    wrong = {"env": {"DES_ADDRESS": "127.0.0.1"}}
    for arguments, more in (
        (["stat", "x", "--address", "127.0.0.1"], {}),
        (["--address", "127.0.0.1", "stat", "x"], {}),
        (["stat", "x"], wrong),
    ):
        ran = des(*arguments, **more)
        assert ran.code == Exit.USAGE
        assert "found '127.0.0.1', expected HOST:PORT, as 127.0.0.1:7420" in one_line(ran.err)


def one_line(text):
    return re.sub(r"\s+", " ", text)


def test_a_day_that_is_none_is_a_mistake(des, store):
    ran = des("find", "--day", "2026-13-45")
    assert (ran.code, "found '2026-13-45', expected a day as 2026-01-15" in ran.err) == (Exit.USAGE, True)


def run_into_a_full_disk(des, *arguments):
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            des.line(*arguments),
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=des.folder,
            env=des.environment,
            timeout=60,
            check=False,
        )
    return ran.returncode, ran.stderr.decode()


FULL = (Exit.FAILED, "des: No space left on device\n")


@pytest.mark.parametrize("arguments", [["cat"], ["get", "-o", "-"]])
def test_a_full_disk_behind_stdout_is_told_in_a_line(des, store, arguments):
    name = des("put", "-", stdin=bytes(100_000)).text.split("  ")[0]
    assert run_into_a_full_disk(des, arguments[0], name, *arguments[1:]) == FULL


def test_a_full_disk_behind_a_few_lines_is_told_in_a_line(des):
    assert run_into_a_full_disk(des, "config", "show") == FULL


def test_what_cannot_be_an_archive_is_named(des):
    (des.folder / "folder").mkdir()
    (des.folder / "short.des").write_bytes(b"x")
    assert des("ls", "folder").err == "des: folder: Is a directory\n"
    for verb in ("ls", "inspect"):
        ran = des(verb, "short.des")
        assert (ran.code, ran.err.startswith("des: short.des: container has 1 bytes")) == (Exit.CORRUPT, True)


def test_a_data_folder_that_is_a_file_is_told_as_such(des):
    (des.folder / "file").write_bytes(b"")
    for folder in ("file", "file/below"):
        ran = des("serve", "--data-dir", folder, "--listen", "127.0.0.1:0", "--http-listen", "")
        assert (ran.code, ran.out) == (Exit.UNAVAILABLE, b"")
        assert ran.err == (
            f"des: cannot start: data_dir is {folder!r}, where a file is in the way, expected a folder\n"
        )


def test_the_help_of_a_verb_is_about_the_verb(des):
    ran = des("put", "--help")
    assert ran.code == Exit.OK
    assert "completion" not in ran.text
