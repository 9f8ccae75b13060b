"""docs/grpcurl.md is run as it stands: grpcurl, buf curl and grpc-health-probe against a real server."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "grpcurl.md"
PATH = os.pathsep.join(
    [str(ROOT / ".tools/bin"), str(ROOT / ".tools/node_modules/.bin"), os.environ.get("PATH", "")]
)


def blocks():
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_every_recipe_prints_what_the_page_says(server, tmp_path):
    missing = [
        tool for tool in ("grpcurl", "grpc-health-probe", "buf") if shutil.which(tool, path=PATH) is None
    ]
    if missing:
        pytest.skip(f"without {', '.join(missing)}: make grpc-tools installs them")
    recipes = blocks()
    assert len(recipes) >= 7
    for block in recipes:
        assert "# ->" in block
    # One shell for the page, as a reader has one; what a block prints follows its number.
    script = "\n".join(f"printf '\\n@@ {number}\\n'\n{block}" for number, block in enumerate(recipes))
    ran = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script.replace("127.0.0.1:7420", server.address)],
        cwd=ROOT,
        env={**os.environ, "PATH": PATH, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    printed = re.split(r"^@@ \d+$", ran.stdout + "\n@@ 0\n" + ran.stderr, flags=re.MULTILINE)
    for block, output in zip(recipes, printed[1:], strict=False):
        for expected in re.findall(r"# -> (.*)$", block, re.MULTILINE):
            # grpc-health-probe speaks on stderr.
            assert expected in output or expected in printed[-1], (expected, output)
