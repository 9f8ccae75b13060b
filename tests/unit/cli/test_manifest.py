import pytest

from des.cli import manifest
from des.cli.exits import Exit, Failure
from des.cli.manifest import Entry, ManifestWriter

SHA = "ab" * 32
ONE = Entry("DES_20260115_(000000000001_01)", SHA, "a/b.txt")
ODD = Entry("DES_20260115_(000000000002_02)", SHA, "tab\there\nand \udcff")


def written(file, *entries):
    writer = ManifestWriter(file)
    for entry in entries:
        writer.append(entry)
    writer.close()


def test_an_entry_is_one_line_of_name_sha256_path(tmp_path):
    written(tmp_path / "m", ONE, ODD)
    assert (tmp_path / "m").read_bytes() == (
        f"{ONE.name}\t{SHA}\ta/b.txt\n{ODD.name}\t{SHA}\ttab\\there\\nand \\xff\n".encode()
    )
    assert list(manifest.read(tmp_path / "m")) == [ONE, ODD]


def test_a_torn_last_line_is_cut_off_before_anything_is_appended(tmp_path):
    file = tmp_path / "m"
    written(file, ONE)
    with file.open("ab") as torn:
        torn.write(f"{ODD.name}\t{SHA}\ta/b".encode())
    assert list(manifest.read(file)) == [ONE]
    written(file, ODD)
    assert list(manifest.read(file)) == [ONE, ODD]


def test_a_torn_only_line_leaves_an_empty_manifest(tmp_path):
    (tmp_path / "m").write_bytes(b"DES_2026")
    written(tmp_path / "m", ONE)
    assert list(manifest.read(tmp_path / "m")) == [ONE]


def test_a_file_that_is_no_manifest_is_left_alone(tmp_path):
    file = tmp_path / "letter.txt"
    file.write_text("Dear Sir\nno newline at the end")
    with pytest.raises(Failure, match=r"line 1: found b'Dear Sir', expected NAME<TAB>") as raised:
        ManifestWriter(file)
    assert raised.value.code == Exit.USAGE
    assert file.read_text() == "Dear Sir\nno newline at the end"


def test_a_later_line_of_a_path_replaces_the_earlier(tmp_path):
    newer = Entry(ODD.name, SHA, ONE.path)
    written(tmp_path / "m", ONE, ODD, newer)
    assert list(manifest.read_last(tmp_path / "m")) == [ODD, newer]


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(Failure, match="No such file"):
        list(manifest.read(tmp_path / "none"))
