"""How small: a container against tar.zst, zip, and every file alone with zstd, on files that are installed.

    python benchmarks/bench_compression.py [corpus...]

Corpora: `python` (the sources of site-packages), `small-python` (those up to 4 KiB), `headers` (C, below
/usr/include and /usr/lib/gcc), `javascript` (below --javascript), `json` (the shapes of botocore's service
models, one document each), `svg` and `png` (icons found below --images).

The bound: `tar.zst -19 --long` packs everything as one stream with a window over all of it, and so finds what
any scheme could that compresses each file with the help of the others; it reads nothing alone.
"""

import argparse
import gzip
import io
import json
import random
import site
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import zstandard

from des.core import DesReader, DesWriter
from des.format.compressor import Compressor, Samples

FILES_MAX = 20_000
CORPORA = ("python", "small-python", "headers", "javascript", "json", "svg", "png")
LEVEL = 9
PLAIN = zstandard.ZstdCompressionParameters.from_level(LEVEL)
LONG = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)

Corpus = dict[str, bytes]


def sources(folders: list[str], suffix: str, size_max: int = 1 << 20) -> Corpus:
    found: Corpus = {}
    for root in folders:
        for path in sorted(Path(root).rglob(f"*{suffix}")):
            data = path.read_bytes() if path.is_file() else b""
            if 0 < len(data) <= size_max:
                found[str(path)] = data
    return found


def documents() -> Corpus:
    found: Corpus = {}
    for root in site.getsitepackages():
        for path in sorted((Path(root) / "botocore/data").rglob("service-2.json*")):
            raw = path.read_bytes()
            model = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
            for name, shape in model.get("shapes", {}).items():
                found[f"{path.parts[-3]}/{name}.json"] = json.dumps({name: shape}).encode()
    return found


def images(folders: list[str], suffix: str) -> Corpus:
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(Path(folder).rglob(f"*{suffix}"))
        if path.is_file() and path.stat().st_size
    }


def cut(corpus: Corpus, size_max: int) -> Corpus:
    """The same choice of at most so many files and bytes, in the order of their names."""
    names = sorted(corpus)
    random.Random(1).shuffle(names)
    chosen, size = [], 0
    for name in names[:FILES_MAX]:
        if size + len(corpus[name]) <= size_max:
            chosen.append(name)
            size += len(corpus[name])
    return {name: corpus[name] for name in sorted(chosen)}


def kind_of(name: str) -> str:
    return {
        ".py": "text/x-python",
        ".h": "text/x-chdr",
        ".js": "text/javascript",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".png": "image/png",
    }[Path(name).suffix]


def container(corpus: Corpus, *, compress: bool, ext: bool = True) -> bytes:
    names = list(corpus)
    compressor = None
    if compress:
        samples = Samples.choose((kind_of(name), len(corpus[name])) for name in names)
        compressor = Compressor.train(samples, {at: corpus[names[at]] for at in samples.places})
    target = io.BytesIO()
    with DesWriter(target, compressor=compressor, digest=False, ext=ext) as writer:
        for name, data in corpus.items():
            writer.add_file(name, data, kind=kind_of(name))
    return target.getvalue()


def stored(corpus: Corpus) -> int:
    """Bytes of files and dictionaries in a container, without names and index: as files alone have none."""
    path = Path("bench_compression.des")
    path.write_bytes(container(corpus, compress=True))
    try:
        with DesReader(path) as reader:
            assert all(reader.get_file(name) == data for name, data in corpus.items())
            return sum(file.entry.data_length for file in reader) + reader.footer.data_start
    finally:
        path.unlink()


def tar_zst(corpus: Corpus, parameters: zstandard.ZstdCompressionParameters) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in corpus.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return zstandard.ZstdCompressor(compression_params=parameters).compress(target.getvalue())


def zipped(corpus: Corpus) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in corpus.items():
            archive.writestr(name, data)
    return target.getvalue()


def alone(corpus: Corpus, level: int) -> int:
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=False)
    return sum(len(compressor.compress(data)) for data in corpus.values())


def timed(make: Callable[[], int]) -> tuple[int, float]:
    began = time.process_time()
    return make(), time.process_time() - began


def report(label: str, corpus: Corpus, size_max: int) -> None:
    corpus = cut(corpus, size_max)
    if not corpus:
        print(f"{label}: nothing found")
        return
    raw = sum(map(len, corpus.values()))
    print(f"\n{label}: {len(corpus):,} files, {raw:,} bytes, {raw / len(corpus):,.0f} on average")
    print(f"  {'':<34} {'bytes':>12} {'of raw':>8} {'smaller by':>10} {'CPU s':>7}")
    rows: list[tuple[str, Callable[[], int]]] = [
        ("container, files and dictionaries", lambda: stored(corpus)),
        (f"every file alone, zstd -{LEVEL}", lambda: alone(corpus, LEVEL)),
        ("every file alone, zstd -3", lambda: alone(corpus, 3)),
        ("every file alone, zstd -19", lambda: alone(corpus, 19)),
        ("container, whole", lambda: len(container(corpus, compress=True))),
        ("container, whole, without EXT", lambda: len(container(corpus, compress=True, ext=False))),
        ("container, whole, not compressed", lambda: len(container(corpus, compress=False))),
        (f"tar.zst -{LEVEL} (no random access)", lambda: len(tar_zst(corpus, PLAIN))),
        ("tar.zst -19 --long (the bound)", lambda: len(tar_zst(corpus, LONG))),
        ("zip (deflate)", lambda: len(zipped(corpus))),
    ]
    sizes: dict[str, int] = {}
    for name, make in rows:
        size, seconds = timed(make)
        sizes[name] = size
        print(f"  {name:<34} {size:>12,} {size / raw:>8.1%} {raw / size:>9.2f}x {seconds:>7.2f}")
    files, bound = sizes["container, files and dictionaries"], sizes["tar.zst -19 --long (the bound)"]
    for level in (3, LEVEL, 19):
        single = sizes[f"every file alone, zstd -{level}"]
        print(
            f"  files in the container are {single / files:.2f}x smaller than alone at -{level}; "
            f"the bound is {single / bound:.2f}x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", nargs="*", default=list(CORPORA))
    parser.add_argument("--images", nargs="*", default=site.getsitepackages(), help="folders with icons")
    parser.add_argument("--javascript", nargs="*", default=["/usr/lib/node_modules", "/usr/share/nodejs"])
    parser.add_argument("--mib", type=int, default=64, help="of each corpus, at most")
    options = parser.parse_args()
    packages = site.getsitepackages()
    make: dict[str, Callable[[], Corpus]] = {
        "python": lambda: sources(packages, ".py"),
        "small-python": lambda: sources(packages, ".py", 4096),
        "headers": lambda: sources(["/usr/include", "/usr/lib/gcc"], ".h"),
        "javascript": lambda: sources(options.javascript, ".js"),
        "json": documents,
        "svg": lambda: images(options.images, ".svg"),
        "png": lambda: images(options.images, ".png"),
    }
    for label in options.corpora:
        report(label, make[label](), options.mib << 20)


if __name__ == "__main__":
    main()
