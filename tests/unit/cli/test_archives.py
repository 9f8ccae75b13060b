"""Archives on the command line: packed, listed, unpacked, checked, repaired, exported, upgraded."""

import json
import os
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from des.cli.archive import mapped_name
from des.cli.exits import Exit
from des.cli.folder import parts
from des.cli.main import app
from des.cli.text import escape
from des.core import DesReader, DesWriter
from des.format.ext_trailer import TRAILER_SIZE
from des.format.footer import FOOTER_SIZE, Footer

GOLDEN = Path(__file__).parents[2] / "golden" / "origin-v1"


@dataclass
class Ran:
    code: int
    out: bytes
    err: str

    @property
    def text(self):
        return self.out.decode()

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]


class InProcess:
    """The command in this process: archives need no server, and a new process takes its time."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *args):
        done = CliRunner().invoke(app, [*map(str, args)], catch_exceptions=False)
        return Ran(done.exit_code, done.stdout_bytes, done.stderr)


@pytest.fixture
def des(tmp_path, monkeypatch):
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return InProcess(folder)


@pytest.fixture
def tree(des):
    """A folder of many small files, a long one and odd ones."""
    root = des.folder / "tree"
    for number in range(300):
        file = root / f"docs/{number % 7}" / f"{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            json.dumps({"number": number, "title": f"document {number}", "body": ["as ever"] * 40})
        )
    (root / "empty").write_bytes(b"")
    (root / "zażółć.txt").write_text("ż")
    (root / "long.log").write_bytes(b"one line of many\n" * 400_000)
    (root / "noise").write_bytes(os.urandom(5 << 20))
    (root / "line\nbreak").write_bytes(b"odd")
    (root / "link").symlink_to("empty")
    return root


@pytest.fixture
def archive(des, tree):
    done = des("pack", "tree", "-o", "tree.des")
    assert done.code == 0, done.err
    return des.folder / "tree.des"


def files_below(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def hostile(folder, names, layout="framed"):
    path = folder / "hostile.des"
    with DesWriter(path, layout=layout) as writer:
        for name in names:
            writer.add_file(name, b"x" + name.encode()[:5])
    return path


# --- pack and unpack ------------------------------------------------------------------------------


def test_what_is_packed_unpacks_to_the_same_tree(des, tree, archive):
    for option in ("-C", "-o"):
        done = des("unpack", "tree.des", option, f"out{option}")
        assert (done.code, done.out) == (0, b"")
        assert files_below(des.folder / f"out{option}") == files_below(tree)


def test_packing_is_repeatable_and_links_are_left_out(des, tree, archive):
    done = des("pack", tree, "-o", "again.des")
    assert (des.folder / "again.des").read_bytes() == archive.read_bytes()
    assert "link" in done.err
    with DesReader(archive) as reader:
        assert "link" not in reader


def test_packing_compresses_with_dictionaries_unless_told_not_to(des, tree, archive):
    assert des("pack", "tree", "-o", "raw.des", "--compression", "off").code == 0
    assert archive.stat().st_size < (des.folder / "raw.des").stat().st_size
    [shown] = des("inspect", "tree.des", "--json").records
    assert shown["dictionaries"]
    assert "compressed" in shown["features"]
    assert "compressed" not in des("inspect", "raw.des", "--json").records[0]["features"]


def test_a_packed_archive_never_replaces_a_file(des, tree):
    (des.folder / "there.des").write_bytes(b"precious")
    done = des("pack", "tree", "-o", "there.des")
    assert done.code == Exit.CONFLICT
    assert (des.folder / "there.des").read_bytes() == b"precious"


def test_a_file_that_cannot_be_packed_is_reported_and_the_rest_is_packed(des, tree):
    (tree / os.fsdecode(b"latin-\xff")).write_bytes(b"x")
    done = des("pack", "tree", "-o", "tree.des", "--json")
    assert done.code == Exit.FAILED
    [failed] = [record for record in done.records if "error" in record]
    assert "Unicode" in failed["error"]
    with DesReader(des.folder / "tree.des") as reader:
        assert len(reader) == 305


@pytest.mark.parametrize("verb", ["inspect", "ls", "verify"])
@pytest.mark.parametrize(
    ("name", "code"), [("none.des", Exit.NOT_FOUND), ("s3://bucket", Exit.USAGE), ("text", Exit.CORRUPT)]
)
def test_what_is_no_archive_has_an_exit_code_and_one_line(des, verb, name, code):
    (des.folder / "text").write_text("no container " * 20)
    done = des(verb, name)
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    assert "Traceback" not in done.err


def test_a_folder_that_is_not_there_is_said(des):
    assert des("pack", "none", "-o", "x.des").code == Exit.FAILED
    assert not (des.folder / "x.des").exists()


UNSAFE = ["../escape", "/absolute", "a//b", "a/./b", "..", "nul\0byte", "a/../../b", "x" * 300, "dir/"]


@pytest.mark.parametrize("layout", ["framed", "v1"])
def test_unsafe_names_are_refused_and_the_rest_is_written(des, layout):
    hostile(des.folder, [*UNSAFE, "fine", "also/fine"], layout)
    done = des("unpack", "hostile.des", "-C", "deep/out", "--json")
    assert done.code == Exit.FAILED
    assert {record["name"] for record in done.records if "error" in record} == set(UNSAFE)
    assert set(files_below(des.folder / "deep")) == {"out/fine", "out/also/fine"}


def test_unsafe_names_are_mapped_on_request(des):
    hostile(des.folder, [*UNSAFE, "fine"])
    done = des("unpack", "hostile.des", "-C", "deep/out", "--map", "--json")
    assert done.code == 0
    assert {record["name"] for record in done.records} == {*UNSAFE, "fine"}
    written = files_below(des.folder / "deep/out")
    assert set(written) == {*map(mapped_name, UNSAFE), "fine"}
    assert written["..%2Fescape"] == b"x../es"


def test_a_mapped_name_that_is_another_files_is_refused(des):
    hostile(des.folder, ["../a", "..%2Fa"])
    done = des("unpack", "hostile.des", "-C", "out", "--map", "--json")
    assert done.code == Exit.FAILED
    assert files_below(des.folder / "out") == {"..%2Fa": b"x..%2F"}


@pytest.mark.parametrize("name", [*UNSAFE, "%", "ż" * 200, "..." * 100, "/" * 90])
def test_mapped_names_are_one_safe_part(name):
    [part] = parts(mapped_name(name))
    assert len(part.encode()) <= 255


def test_links_in_the_target_are_never_followed(des, archive):
    out = des.folder / "out"
    out.mkdir()
    elsewhere = des.folder / "elsewhere"
    elsewhere.mkdir()
    (out / "docs").symlink_to(elsewhere)
    (out / "empty").symlink_to(des.folder / "victim")
    (des.folder / "victim").write_bytes(b"precious")
    done = des("unpack", "tree.des", "-C", "out")
    assert done.code == Exit.FAILED
    assert list(elsewhere.iterdir()) == []
    assert (des.folder / "victim").read_bytes() == b"precious"
    assert (out / "empty").read_bytes() == b""
    assert not (out / "empty").is_symlink()


def test_a_prefix_unpacks_a_part(des, tree, archive):
    des("unpack", "tree.des", "-C", "out", "--prefix", "docs/3/")
    assert set(files_below(des.folder / "out")) == {f"docs/3/{n}.json" for n in range(3, 300, 7)}


# --- ls and inspect -------------------------------------------------------------------------------


def test_ls_lists_sorted_escaped_names(des, tree, archive):
    lines = des("ls", "tree.des").lines
    assert lines == [escape(name) for name in sorted(files_below(tree))]
    assert "line\\nbreak" in lines
    assert des("ls", "tree.des", "--prefix", "docs/0/1").lines == [
        name for name in lines if name.startswith("docs/0/1")
    ]


def test_ls_long_says_what_a_file_takes(des, tree, archive):
    records = {record["name"]: record for record in des("ls", "tree.des", "--json").records}
    log = records["long.log"]
    assert (log["size"], log["compressed"]) == (6_800_000, False)
    document = records["docs/0/0.json"]
    assert document["stored"] < document["size"] == (tree / "docs/0/0.json").stat().st_size
    assert (
        f"{document['size']:>12,}  {document['stored']:>12,}  docs/0/0.json"
        in des("ls", "tree.des", "-l").lines
    )


def test_inspect_shows_every_section(des, archive):
    [shown] = des("inspect", "tree.des", "--json").records
    assert [section["name"] for section in shown["sections"]][:4] == ["ZDICT", "DATA", "META", "INDEX"]
    assert {"HASHPAGES", "NAMES", "STATS"} <= {section["name"] for section in shown["sections"]}
    assert (shown["files"], shown["layout"]) == (305, "framed")
    text = des("inspect", "tree.des").text
    assert "files          305" in text
    assert "dictionaries" in text


# --- verify and repair ----------------------------------------------------------------------------


def test_a_sound_archive_verifies(des, archive):
    for options in ([], ["--deep"]):
        done = des("verify", "tree.des", *options)
        assert (done.code, "sound" in done.err) == (0, True)
    assert des("verify", "tree.des", "--v1").code == Exit.FAILED


def test_an_archive_for_the_origin_verifies_as_such(des, tree):
    des("pack", "tree", "-o", "v1.des", "--layout", "v1")
    assert des("verify", "v1.des", "--v1", "--deep").code == 0


def test_damage_is_found_named_and_repaired_in_a_new_file(des, tree, archive):
    with DesReader(archive) as reader:
        place = reader.find("docs/3/10.json").data_offset + 3
    damaged = bytearray(archive.read_bytes())
    damaged[place] ^= 0xFF
    archive.write_bytes(damaged)
    assert des("verify", "tree.des").code == 0
    done = des("verify", "tree.des", "--deep", "--json")
    assert done.code == Exit.CORRUPT
    assert "docs/3/10.json" in {record.get("where") for record in done.records}
    done = des("repair", "tree.des", "-o", "new.des", "--json")
    assert done.code == Exit.FAILED
    assert (done.records[-1]["kept"], done.records[-1]["lost"]) == (304, 1)
    assert archive.read_bytes() == damaged
    assert des("verify", "new.des", "--deep").code == 0
    des("unpack", "new.des", "-C", "out")
    expected = files_below(tree)
    del expected["docs/3/10.json"]
    assert files_below(des.folder / "out") == expected


def test_an_archive_without_its_tail_is_repaired_from_frames(des, tree, archive):
    whole = archive.read_bytes()
    footer = Footer.decode(whole[-FOOTER_SIZE:])
    archive.write_bytes(whole[: footer.data_stop])
    assert des("verify", "tree.des").code == Exit.CORRUPT
    done = des("repair", "tree.des", "-o", "new.des", "--json")
    assert (done.code, done.records[-1]["kept"], done.records[-1]["from_frames"]) == (0, 305, True)
    # Same files, same places, so the very same container.
    assert (des.folder / "new.des").read_bytes()[: footer.index_stop] == whole[: footer.index_stop]
    des("unpack", "new.des", "-C", "out")
    assert files_below(des.folder / "out") == files_below(tree)


def test_an_archive_without_frames_and_index_cannot_be_repaired(des, tree):
    des("pack", "tree", "-o", "v1.des", "--layout", "v1")
    path = des.folder / "v1.des"
    path.write_bytes(path.read_bytes()[:-100])
    done = des("repair", "v1.des", "-o", "new.des")
    assert done.code == Exit.CORRUPT
    assert not (des.folder / "new.des").exists()


def test_repair_never_writes_in_place(des, archive):
    before = archive.read_bytes()
    assert des("repair", "tree.des", "-o", "tree.des").code == Exit.CONFLICT
    assert archive.read_bytes() == before


def test_a_v1_archive_with_a_damaged_file_is_repaired_too(des):
    path = des.folder / "v1.des"
    with DesWriter(path, layout="v1") as writer:
        for name in ("a", "b", "c"):
            writer.add_file(name, name.encode() * 1000)
        writer.add_external("outside", size=5, external_key="k")
    data = bytearray(path.read_bytes())
    data[16 + 1500] ^= 1
    path.write_bytes(data)
    done = des("repair", "v1.des", "-o", "new.des", "--json")
    assert (done.records[-1]["kept"], done.records[-1]["lost"]) == (3, 1)
    assert des("ls", "new.des").lines == ["a", "c", "outside"]
    assert des("verify", "new.des", "--deep").code == 0


# --- upgrade --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["framed", "v1"])
def test_upgrade_gives_what_the_writer_would_have_made(des, layout):
    made = []
    for ext in (False, True):
        path = des.folder / f"{ext}.des"
        with DesWriter(path, layout=layout, digest=True, ext=ext) as writer:
            for number in range(200):
                writer.add_file(f"file-{number}", b"%d" % number * 50, metadata={"n": number})
            writer.add_external("outside", size=5, external_key="k")
        made.append(path.read_bytes())
    assert des("upgrade", "False.des", "-o", "new.des").code == 0
    upgraded, written = (des.folder / "new.des").read_bytes(), made[1]
    # The trailer says that it was added; all else is the same.
    trailer = -FOOTER_SIZE - TRAILER_SIZE
    assert upgraded[:trailer] == written[:trailer]
    assert upgraded[-FOOTER_SIZE:] == written[-FOOTER_SIZE:]
    assert "upgraded" in des("inspect", "new.des", "--json").records[0]["features"]
    assert (des.folder / "False.des").read_bytes() == made[0]


def test_archives_of_the_origin_are_upgraded(des):
    upgraded = 0
    for path in sorted(GOLDEN.rglob("*.des")):
        target = des.folder / f"{upgraded}.des"
        assert des("upgrade", path, "-o", target).code == 0
        old, new = path.read_bytes(), target.read_bytes()
        assert new.startswith(old[:-FOOTER_SIZE])
        assert new.endswith(old[-FOOTER_SIZE:])
        assert des("verify", target, "--deep", "--v1").code == 0
        upgraded += 1
    assert upgraded


def test_an_archive_that_has_ext_is_not_upgraded(des, archive):
    assert des("upgrade", "tree.des", "-o", "new.des").code == Exit.USAGE


# --- export ---------------------------------------------------------------------------------------


def test_export_to_tar_has_every_file(des, tree, archive):
    assert des("export", "tree.des", "--to", "tar", "-o", "tree.tar").code == 0
    with tarfile.open(des.folder / "tree.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
        assert {member.mode for member in tar} == {0o644}
    assert found == files_below(tree)
    assert des("export", "tree.des", "--to", "tar").out == (des.folder / "tree.tar").read_bytes()
    assert stat.S_IMODE((des.folder / "tree.tar").stat().st_mode) == 0o666 & ~_umask()


def test_export_to_zip_has_every_file(des, tree, archive):
    assert des("export", "tree.des", "--to", "zip", "-o", "tree.zip").code == 0
    with zipfile.ZipFile(des.folder / "tree.zip") as archived:
        assert archived.testzip() is None
        assert {name: archived.read(name) for name in archived.namelist()} == files_below(tree)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_unsafe_names_are_not_exported(des, kind):
    hostile(des.folder, ["../escape", "/absolute", "fine"])
    done = des("export", "hostile.des", "--to", kind, "-o", "out")
    assert done.code == Exit.FAILED
    opened = tarfile.open if kind == "tar" else zipfile.ZipFile
    with opened(des.folder / "out") as archived:
        assert (archived.getnames() if kind == "tar" else archived.namelist()) == ["fine"]
    assert list(des.folder.glob(".out*")) == []


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
