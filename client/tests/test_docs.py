"""What the documentation shows is run."""

import doctest
import re
import zipfile
from pathlib import Path

import des_client
import des_client.aio_client
import des_client.client
import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(bytes(2_000_000))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("inside.txt", "hello")
    return tmp_path


def test_every_snippet_of_the_readme_runs(server, folder, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 9
    names = {}
    for block in blocks:
        exec(compile(block.replace("127.0.0.1:7420", server.target), str(README), "exec"), names)
    assert (folder / "copy.txt").read_bytes() == b"hello"
    assert "2000000 of 2000000" in capsys.readouterr().out


def test_the_table_of_errors_tells_the_truth():
    rows = re.findall(r"^\| (`\w+`.*?) \| (.*?) \|", README.read_text(), re.MULTILINE)
    assert len(rows) >= 12
    for kinds, builtins in rows:
        for kind in re.findall(r"`(\w+)`", kinds):
            cls = getattr(des_client, kind)
            if ":" not in builtins:
                assert all(
                    name in [one.__name__ for one in cls.__mro__] for name in re.findall(r"`(\w+)`", builtins)
                )


@pytest.mark.parametrize(
    "module", [des_client, des_client.client, des_client.aio_client], ids=lambda one: one.__name__
)
def test_the_examples_of_the_docstrings_are_right(server, module):
    tests = [one for one in doctest.DocTestFinder().find(module, globs=vars(module).copy()) if one.examples]
    assert tests
    for test in tests:
        for example in test.examples:
            example.source = example.source.replace("127.0.0.1:7420", server.target)
        assert doctest.DocTestRunner().run(test) == (0, len(test.examples))
