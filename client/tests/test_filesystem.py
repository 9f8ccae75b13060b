"""The store through fsspec: its own suite where it applies, and what libraries do with it."""

import csv
import importlib.metadata
import pickle

import fsspec
import pytest
from des_client import DesClient, FileMissing
from des_client.filesystem import DesFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractOpenTests, AbstractPipeTests

fsspec.register_implementation("des", DesFileSystem, clobber=True)


@pytest.fixture
def fs(server):
    made = DesFileSystem(server.target, skip_instance_cache=True)
    yield made
    made.client.close()


@pytest.fixture
def names(double):
    return [double.add(b"%d" % number * 100, content_type="text/plain") for number in range(5)]


def test_it_is_found_by_its_protocol():
    (found,) = importlib.metadata.entry_points(group="fsspec.specs", name="des")
    assert found.load() is DesFileSystem


def test_a_url_says_where_the_store_is(server, names):
    url = f"des://{server.target}/{names[1]}"
    with fsspec.open(url) as file:
        assert file.read(3) == b"111"
        file.seek(-1, 2)
        assert file.read() == b"1"
    fs, path = fsspec.core.url_to_fs(url)
    assert (fs.target, path) == (server.target, names[1])
    assert fs.unstrip_protocol(path) == url
    fs.client.close()


def test_the_store_is_a_flat_folder(fs, names):
    assert sorted(fs.ls("", detail=False)) == sorted(names)
    entry = fs.info(names[0])
    assert (entry["size"], entry["type"], entry["content_type"]) == (100, "file", "text/plain")
    assert fs.info("")["type"] == "directory"
    assert (fs.isdir(""), fs.isdir(names[0])) == (True, False)
    assert (fs.isfile(names[0]), fs.isfile("missing")) == (True, False)
    assert fs.created(names[0]) == fs.modified(names[0])
    with pytest.raises(FileNotFoundError):
        fs.info("missing")


def test_finding_asks_only_for_what_begins_so(fs, double, names):
    assert fs.find(names[0][:-4]) == sorted(one for one in names if one.startswith(names[0][:-4]))
    double.requests.clear()
    assert fs.glob(names[2][:-3] + "*") == [names[2]]
    assert {one.prefix for one in double.requests} == {names[2][:-3]}
    assert sorted(fs.glob("T_2026*")) == sorted(names)


def test_many_paths_are_one_batch(fs, double, names):
    double.calls.clear()
    found = fs.cat(names)
    assert found == {name: double.files[name].content for name in names}
    assert double.calls["BatchReadFiles"] == 1
    assert double.calls["GetFile"] == 0


def test_a_missing_path_is_raised_left_out_or_returned(fs, names):
    asked = [names[0], "missing"]
    with pytest.raises(FileNotFoundError):
        fs.cat(asked)
    assert list(fs.cat(asked, on_error="omit")) == names[:1]
    assert isinstance(fs.cat(asked, on_error="return")["missing"], FileMissing)


@pytest.mark.parametrize("start", [None, 0, 1, 3, 9, 10, 12, -1, -3, -20])
@pytest.mark.parametrize("end", [None, 0, 1, 4, 10, 12, -1, -4, -20])
def test_ranges_are_pythons(fs, double, start, end):
    name = double.add(b"0123456789")
    assert fs.cat_file(name, start=start, end=end) == b"0123456789"[start:end]


def test_many_ranges_are_one_batch(fs, double, names):
    double.calls.clear()
    assert fs.cat_ranges(names[:3], [0, 1, 2], [2, 2, 5]) == [b"00", b"1", b"222"]
    assert double.calls["BatchReadFiles"] == 1
    missing = fs.cat_ranges(["missing"], 0, 2, on_error="return")
    assert isinstance(missing[0], FileNotFoundError)


def test_files_are_written_under_reserved_names(fs, server, tmp_path):
    with DesClient(server.target) as des:
        one, two, three, four = (reserved.name for reserved in des.assign_names(4))
    with fs.open(one, "wb") as file:
        file.write(b"written ")
        file.write(bytes(20 << 20))
    assert fs.size(one) == 8 + (20 << 20)
    fs.pipe({two: b"two", three: b"three"})
    assert fs.cat([two, three]) == {two: b"two", three: b"three"}
    (tmp_path / "four").write_bytes(b"four")
    fs.put(str(tmp_path / "four"), four)
    fs.get(four, str(tmp_path / "sub" / "copy"))
    assert (tmp_path / "sub" / "copy").read_bytes() == b"four"
    with pytest.raises(FileExistsError):
        fs.pipe_file(two, b"other")
    with pytest.raises(ValueError, match="written once"):
        fs.open(two, "ab")
    fs.rm([two, three])
    assert not fs.exists(two)
    with pytest.raises(PermissionError):
        fs.rm("", recursive=True)


def test_a_discarded_file_is_not_stored(fs, server):
    with DesClient(server.target) as des:
        (reserved,) = des.assign_names(1)
    with fs.transaction:
        file = fs.open(reserved.name, "wb")
        file.write(b"x")
        file.close()
        assert not fs.exists(reserved.name)
    assert fs.exists(reserved.name)


def test_it_can_be_pickled(fs, names):
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file(names[0], end=2) == b"00"


def test_csv_through_the_standard_library(fs, server, names):
    with DesClient(server.target) as des:
        name = des.put(b"a,b\n1,2\n3,4\n").file.name
    with fs.open(name, "r", newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_csv_through_pandas(server):
    pandas = pytest.importorskip("pandas")
    with DesClient(server.target) as des:
        name = des.put(b"a,b\n1,2\n3,4\n").file.name
    frame = pandas.read_csv(f"des://{server.target}/{name}")
    assert frame["b"].tolist() == [2, 4]


def test_parquet_through_pyarrow(fs, server, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"a": list(range(1000))}), tmp_path / "t.parquet")
    with DesClient(server.target) as des:
        name = des.put(tmp_path / "t.parquet").file.name
    assert parquet.read_table(name, filesystem=fs)["a"].to_pylist() == list(range(1000))


class DesFixtures(AbstractFixtures):
    """fsspec's suite joins folders and file names; here each joined path is a name reserved for it."""

    @pytest.fixture(scope="class")
    def fs(self):
        from des_double import RunningDouble  # noqa: PLC0415  beside the tests

        running = RunningDouble()
        made = DesFileSystem(running.target, skip_instance_cache=True)
        yield made
        made.client.close()
        running.close()

    @pytest.fixture
    def fs_path(self):
        return ""

    @pytest.fixture
    def fs_join(self, fs):
        reserved = {}

        def join(*parts):
            path = "/".join(part for part in parts if part)
            if path not in reserved:
                reserved[path] = fs.client.assign_names(1)[0].name
            return reserved[path]

        return join


@pytest.mark.filterwarnings("ignore:Class-scoped fixture")
class TestOpen(AbstractOpenTests, DesFixtures):
    pass


@pytest.mark.filterwarnings("ignore:Class-scoped fixture")
class TestPipe(AbstractPipeTests, DesFixtures):
    def test_pipe_exclusive(self, fs, fs_target):
        # It holds until the suite overwrites: here a name never changes content.
        with pytest.raises(FileExistsError, match="holds other content"):
            super().test_pipe_exclusive(fs, fs_target)
        assert fs.cat_file(fs_target) == b"data"
