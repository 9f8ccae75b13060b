"""The reader in docs/examples, made from the page alone, reads our containers and the origin's."""

import ast
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import pytest

from des.core import DesReader, DesWriter
from des.format.layout import Layout

EXAMPLE = Path(__file__).parents[3] / "docs/examples/read_container.py"
ORIGIN = Path(__file__).parents[2] / "golden/origin-v1"
LONG = bytes(range(256)) * 4200


@pytest.fixture(scope="module")
def second():
    spec = importlib.util.spec_from_file_location("read_container", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def container(layout, *, ext):
    target = io.BytesIO()
    with DesWriter(target, layout=layout, ext=ext) as writer:
        writer.add_file("a", b"one", metadata={"k": ["v", 1]})
        writer.add_file("empty", b"")
        writer.add_file("żółw", b"\x00\xff" * 300)
        writer.add_file("long", LONG)
        writer.add_external("outside", size=7, external_key="_bigFiles/outside")
    return target.getvalue()


def test_it_is_short_and_needs_the_standard_library_alone():
    source = EXAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 250
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("ext", [True, False])
def test_it_reads_both_layouts_with_and_without_ext(second, layout, ext, tmp_path):
    path = tmp_path / "c.des"
    path.write_bytes(container(layout, ext=ext))
    with second.Container(path) as other, DesReader(path) as reader:
        assert other.names() == [stored.name for stored in reader]
        for name in ("a", "empty", "żółw", "long"):
            assert other.get(name) == reader.get_file(name)
        assert other.metadata("a")["k"] == ["v", 1]
        assert other.metadata("outside")["external_key"] == "_bigFiles/outside"
        with pytest.raises(second.CorruptError, match="object of its own"):
            other.get("outside")


def test_it_reads_what_the_origin_wrote(second):
    for path in ORIGIN.glob("*.des"):
        with second.Container(path) as other, DesReader(path) as reader:
            for stored in reader:
                if not stored.entry.is_external:
                    assert other.get(stored.name) == reader.get_file(stored.name)


@pytest.mark.parametrize("layout", Layout)
def test_it_refuses_a_container_cut_anywhere(second, layout, tmp_path):
    whole = container(layout, ext=True)
    path = tmp_path / "c.des"
    for size in [*range(0, len(whole), 9973), *range(len(whole) - 300, len(whole), 7)]:
        path.write_bytes(whole[:size])
        with pytest.raises(second.CorruptError):
            second.Container(path)


def test_its_command_line(tmp_path):
    path = tmp_path / "c.des"
    path.write_bytes(container(Layout.FRAMED, ext=True))

    def run(*arguments):
        command = [sys.executable, "-I", EXAMPLE, *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, check=False)

    assert run(path, "a").stdout == b"one"
    assert run(path).stdout.decode().split() == ["a", "empty", "żółw", "long", "outside"]
    assert run(path, "--verify").stdout == b"4 files are sound, 1 lie outside\n"
    assert run(path, "absent").returncode == 1
    path.write_bytes(b"no container")
    assert b"corrupt" in run(path).stderr
