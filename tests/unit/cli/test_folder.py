import os

import pytest

from des.cli.exits import Failure
from des.cli.folder import Folder


@pytest.fixture
def folder(tmp_path):
    opened = Folder.open(str(tmp_path / "in"))
    yield opened
    opened.close()


def write(folder, path, data=b"new"):
    with folder.replace(path) as file:
        file.write(data)


def test_a_file_appears_below_the_folder_with_its_parents(folder, tmp_path):
    write(folder, "a/b/c.txt")
    assert (tmp_path / "in/a/b/c.txt").read_bytes() == b"new"
    assert os.listdir(tmp_path / "in/a/b") == ["c.txt"]


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//x", "./x", "", "a/", "a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(folder, path, tmp_path):
    with pytest.raises(Failure, match=r"expected one below|part"):
        write(folder, path)
    assert os.listdir(tmp_path) == ["in"]


def test_a_link_on_the_way_is_not_followed(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        write(folder, "link/x")
    assert os.listdir(tmp_path / "outside") == []


def test_a_link_in_the_files_place_is_replaced_and_its_target_kept(folder, tmp_path):
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / "in/x").symlink_to(tmp_path / "precious")
    write(folder, "x")
    assert (tmp_path / "precious").read_bytes() == b"old"
    assert (tmp_path / "in/x").read_bytes() == b"new"
    assert not (tmp_path / "in/x").is_symlink()


def test_a_write_that_fails_leaves_what_was_there_and_no_trace(folder, tmp_path):
    write(folder, "x", b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError), folder.replace("x") as file:
        fail(file)
    assert (tmp_path / "in/x").read_bytes() == b"old"
    assert os.listdir(tmp_path / "in") == ["x"]


def test_the_checksum_of_what_is_there_follows_no_link_and_waits_for_no_pipe(folder, tmp_path):
    write(folder, "x", b"")
    (tmp_path / "in/link").symlink_to("x")
    os.mkfifo(tmp_path / "in/pipe")
    assert folder.sha256("x") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert folder.sha256("link") is None
    assert folder.sha256("absent/x") is None
    assert folder.sha256("pipe") is None
