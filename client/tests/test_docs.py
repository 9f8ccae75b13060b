"""What the documentation shows is run."""

import ast
import asyncio
import doctest
import inspect
import re
import types
import zipfile
from pathlib import Path

import des_client
import des_client.aio.batch
import des_client.aio.client
import des_client.aio.files
import des_client.aio.listing
import des_client.filesystem
import des_client.sync.batch
import des_client.sync.client
import des_client.sync.files
import des_client.sync.listing
import fsspec
import pytest

fsspec.register_implementation("des", des_client.filesystem.DesFileSystem, clobber=True)

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(bytes(2_000_000))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("inside.txt", "hello")
    return tmp_path


def test_every_snippet_of_the_readme_runs(server, folder, capsys):
    server.double.watch_script = [[([0, 1], 5, True)]]
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


MODULES = [
    des_client,
    des_client.filesystem,
    *(
        getattr(getattr(des_client, kind), topic)
        for kind in ("sync", "aio")
        for topic in ("client", "files", "batch", "listing")
    ),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.__name__)
def test_the_examples_of_the_docstrings_are_right(server, module):
    """They are what one types into `python`, or into `python -m asyncio` where they await."""
    loop = asyncio.new_event_loop()
    names = {**vars(module), "des": None, "name": "", "DesClient": des_client.DesClient}

    def run(source):
        code = compile(source, "<example>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        made = types.FunctionType(code, names)()
        if inspect.iscoroutine(made):
            loop.run_until_complete(made)

    asynchronous = ".aio." in module.__name__
    client = (des_client.AsyncDesClient if asynchronous else des_client.DesClient)(server.target)
    names["des"] = client
    with des_client.DesClient(server.target) as writer:
        names["name"] = writer.put(b"hello").file.name
    try:
        tests = [one for one in doctest.DocTestFinder().find(module, globs={}) if one.examples]
        assert tests
        for test in tests:
            test.globs = {"run": run}
            for example in test.examples:
                source = example.source.replace("127.0.0.1:7420", server.target)
                example.source = f"run({source!r})\n"
            assert doctest.DocTestRunner().run(test) == (0, len(test.examples)), test.name
    finally:
        run("await des.close()" if asynchronous else "des.close()")
        loop.close()
