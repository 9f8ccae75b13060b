import os
import resource
import socket
from pathlib import Path

import pytest

from des.cli import sources
from des.cli.sources import Source, Stream, Unreadable


def found(*paths, follow=False):
    return sorted(sources.find([str(path) for path in paths], follow=follow), key=repr)


def test_a_folder_gives_every_file_below_it_with_its_relative_path(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/deep.txt").write_bytes(b"123")
    (tmp_path / "top").write_bytes(b"")
    assert {(one.key, one.size) for one in found(tmp_path)} == {("a/b/deep.txt", 3), ("top", 0)}
    assert {one.key for one in found(f"{tmp_path}/")} == {"a/b/deep.txt", "top"}


@pytest.mark.parametrize(("given", "key"), [("x", "x"), ("./a/x", "a/x"), ("a/../../t/x", "x")])
def test_a_file_named_itself_keeps_a_relative_path_that_stays_below(given, key, tmp_path, monkeypatch):
    here = tmp_path / "t"
    (here / "a").mkdir(parents=True)
    (here / "x").touch()
    (here / "a/x").touch()
    monkeypatch.chdir(here)
    assert [one.key for one in found(given)] == [key]


def test_an_absolute_path_is_reduced_to_its_name(tmp_path):
    (tmp_path / "x").touch()
    assert [one.key for one in found(tmp_path / "x")] == ["x"]


def test_links_and_odd_files_in_folders_are_skipped(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "sock"))
        kinds = {type(one).__name__ + ":" + getattr(one, "why", "") for one in found(tmp_path)}
    assert kinds == {"Source:", "Skipped:links skipped", "Skipped:pipes skipped", "Skipped:sockets skipped"}


def test_followed_links_lead_to_files_and_folders_but_not_in_circles(tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").touch()
    (tmp_path / "in/out").symlink_to(tmp_path / "out")
    (tmp_path / "in/sub/up").symlink_to("..")
    (tmp_path / "in/dangling").symlink_to("nowhere")
    results = found(tmp_path / "in", follow=True)
    assert [one.key for one in results if isinstance(one, Source)] == ["out/x"]
    assert {one.why for one in results if isinstance(one, Unreadable)} == {
        "No such file or directory",
        "is a link to a folder above it",
    }


def test_a_link_the_user_named_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"12")
    (tmp_path / "link").symlink_to("real")
    assert [one.size for one in found(tmp_path / "link")] == [2]


def test_pipes_and_stdin_that_the_user_named_are_streams(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert found("-", tmp_path / "pipe") == [Stream("-"), Stream(str(tmp_path / "pipe"))]


def test_devices_and_missing_paths_say_what_they_are(tmp_path):
    assert [one.why for one in found("/dev/null", tmp_path / "none")] == [
        "is a device, expected a file, a folder or a pipe",
        "No such file or directory",
    ]


def test_deep_folders_cost_neither_recursion_nor_open_files(tmp_path):
    deep = str(tmp_path)
    for _ in range(300):
        deep += "/d"
        Path(deep).mkdir()
    Path(deep, "x").touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        assert [len(one.key) for one in found(tmp_path)] == [601]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
