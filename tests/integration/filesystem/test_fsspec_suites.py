"""fsspec's own suites against a real store: those of its tests that a store of write-once files can pass.

A store names its files itself, so a path that a test makes up stands for a name reserved for it.
"""

from collections.abc import Callable, Iterator

import pytest
from des_client import DesClient
from des_client.filesystem import DesFileSystem
from fsspec.tests import abstract

FOLDERS = "a store is one flat folder: it has no folders to copy into or from"
MATCHED = "names are the store's, not the test's: what it matches by their endings is not there"
COPIES = "a file is never copied within a store: its name is its content"
OVERWRITES = "files are written once: the test overwrites one"
FACTS_OF_NAMES = "the target's name is made of the source's, which the store gave"

APPLIES = {
    "test_open_exclusive",
    "test_get_file_to_file_in_existing_directory",
    "test_get_file_to_file_in_new_directory",
    "test_get_with_source_and_destination_as_list",
}
"""Of the suite of put, the one over lists applies too, under a name that the suite of copy has as well."""
SUITES = {
    "open": abstract.AbstractOpenTests,
    "pipe": abstract.AbstractPipeTests,
    "get": abstract.AbstractGetTests,
    "put": abstract.AbstractPutTests,
    "copy": abstract.AbstractCopyTests,
}


def reason(suite: str, test: str) -> str:
    """Return why a test of a suite does not apply; nothing where it does."""
    if test in APPLIES or (suite, test) == ("put", "test_copy_with_source_and_destination_as_list"):
        return ""
    if suite == "copy":
        return COPIES
    if suite == "pipe":
        return OVERWRITES
    if "glob" in test:
        return MATCHED
    if (suite == "get" and "list_of_files" in test) or "get_file_to" in test:
        return FACTS_OF_NAMES
    return FOLDERS


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    from tests.conftest import ServerProcess  # noqa: PLC0415  the fixture of one test is not enough here

    folder = tmp_path_factory.mktemp("fsspec")
    server = ServerProcess(folder / "data", folder / "server.log").start()
    yield server.address
    server.kill()


class Store(abstract.AbstractFixtures):
    """What the suites need of a file system."""

    suite = ""

    @pytest.fixture(autouse=True)
    def applies(self, request) -> None:
        why = reason(self.suite, request.function.__name__)
        if why:
            pytest.skip(why)

    @pytest.fixture
    def fs(self, applies, address) -> DesFileSystem:
        return DesFileSystem(address, skip_instance_cache=True)

    @pytest.fixture
    def fs_path(self) -> str:
        return ""

    @pytest.fixture
    def fs_join(self, fs) -> Callable[..., str]:
        names: dict[str, str] = {}

        def join(*parts: str) -> str:
            path = "/".join(part for part in parts if part)
            if path not in names:
                names[path] = path
                if "." in path or "file" in path:
                    (assigned,) = fs.client.assign_names(1)
                    names[path] = assigned.name
            return names[path]

        return join

    @pytest.fixture
    def fs_target(self, fs, request) -> str:
        if request.function.__name__ != "test_open_exclusive":
            return "target"
        (assigned,) = fs.client.assign_names(1)
        return assigned.name

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, fs, fs_join) -> str:
        for path in (("file1",), ("file2",), ("subdir", "subfile1"), ("subdir", "subfile2")):
            fs.pipe(fs_join("source", *path), b"")
        return "source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, fs, fs_join) -> str:
        return self._10_files_with_hashed_names(fs, fs_join, "")


class TestOpen(Store, abstract.AbstractOpenTests):
    suite = "open"


class TestPipe(Store, abstract.AbstractPipeTests):
    suite = "pipe"


class TestGet(Store, abstract.AbstractGetTests):
    suite = "get"


class TestPut(Store, abstract.AbstractPutTests):
    suite = "put"


class TestCopy(Store, abstract.AbstractCopyTests):
    suite = "copy"


def test_no_suite_of_fsspec_is_left_out() -> None:
    assert {name for name in vars(abstract) if name.endswith("Tests")} == {
        suite.__name__ for suite in SUITES.values()
    }
    taken = {
        (suite, test)
        for suite, tests in SUITES.items()
        for test in vars(tests)
        if test.startswith("test_") and not reason(suite, test)
    }
    assert taken == {
        ("open", "test_open_exclusive"),
        ("get", "test_get_file_to_file_in_existing_directory"),
        ("get", "test_get_file_to_file_in_new_directory"),
        ("get", "test_get_with_source_and_destination_as_list"),
        ("put", "test_copy_with_source_and_destination_as_list"),
    }


def test_what_is_written_once_cannot_be_made_again(address) -> None:
    """As far as the suite of pipe goes without overwriting."""
    fs = DesFileSystem(address, skip_instance_cache=True)
    with DesClient(address) as des:
        (assigned,) = des.assign_names(1)
    fs.pipe_file(assigned.name, b"data")
    assert fs.cat_file(assigned.name) == b"data"
    with pytest.raises(FileExistsError):
        fs.pipe_file(assigned.name, b"data", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(assigned.name, b"new data", mode="overwrite")
    assert fs.cat_file(assigned.name) == b"data"
