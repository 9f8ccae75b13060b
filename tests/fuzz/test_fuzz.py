"""The fuzz targets: over their corpus always, and a few seconds of fuzzing where atheris is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 3


def load(name):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TARGETS = load("targets").TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_passes(target):
    seeds = sorted((HERE / "corpus" / target).iterdir())
    assert seeds
    for seed in seeds:
        data = seed.read_bytes()
        TARGETS[target](data)
        for place in range(0, len(data), max(1, len(data) // 100)):
            TARGETS[target](data[:place])
            TARGETS[target](data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])


def test_the_corpus_is_what_the_writer_makes_or_more():
    for name in load("make_corpus").inputs():
        assert (HERE / "corpus" / name).is_file(), f"{name} is missing: run `make fuzz-corpus`"


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: pip install 'des-store[fuzz]', or `make fuzz`",
)
@pytest.mark.parametrize("target", TARGETS)
def test_a_few_seconds_of_fuzzing_find_nothing(target, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            HERE / "fuzz.py",
            target,
            f"-max_total_time={SECONDS}",
            "-rss_limit_mb=1024",
            "-timeout=10",
            f"-artifact_prefix={tmp_path}/",
            tmp_path,
            HERE / "corpus" / target,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
