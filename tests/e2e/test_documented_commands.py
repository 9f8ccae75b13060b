"""Every command in README.md and docs/ is run, in the order of its page, against a real server.

A fence says what is in it. Those of `sh` and `python` are run; one of `sh server` is started and left
running, and what follows on the page talks to it; `sh server="COMMAND"` starts the command in its place.
`no-run="reason"` stands where something is needed that no test machine has. What stands behind `# ->` must be
in the block's output.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
ELSEWHERE = {"docs/grpcurl.md": "tests/e2e/test_other_tools.py"}
"""Pages whose commands another test runs."""
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE)
RUN = {"sh", "python"}
SHOWN = {"", "text", "yaml", "json", "hex", "sql", "ini", "promql"}
"""Languages of fences in which nothing is to be run."""
NO_RUN = re.compile(r'no-run="([^"]{10,})"')
SERVING = re.compile(r"des: serving gRPC on (?P<grpc>\S+), HTTP on (?P<http>\S+), data in")
GRPC, HTTP = "127.0.0.1:7420", "127.0.0.1:7421"
BLOCK_S = 120


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    options: str
    text: str

    @property
    def place(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self):
        return self.language in RUN and not NO_RUN.search(self.options)

    @property
    def server(self):
        """The command of the server to start, where it is one."""
        instead = re.search(r'server="([^"]+)"', self.options)
        return instead[1] if instead else self.text if "server" in self.options.split() else None


def blocks(page):
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        language, _, options = found["info"].strip().partition(" ")
        yield Block(page, text.count("\n", 0, found.start()) + 1, language, options.strip(), found["text"])


ALL = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_every_fence_says_what_is_in_it_and_why_it_is_not_run(block):
    assert block.language in RUN | SHOWN, f"{block.language!r}, expected one of {sorted(RUN | SHOWN)}"
    if block.language in RUN and not block.is_run:
        assert NO_RUN.search(block.options)
    if block.language in SHOWN:
        commands = [
            line for line in block.text.splitlines() if re.match(r"\s*(\$ |des(-\w+)? [a-z]|curl )", line)
        ]
        assert not commands, "commands stand in fences of `sh`"


def test_most_commands_are_run():
    shell = [block for block in ALL if block.language == "sh"]
    assert len([block for block in shell if block.is_run]) >= len(shell) / 2


class Page:
    """One page's commands: a folder, a shell that remembers, and the servers that the page starts."""

    def __init__(self, folder):
        self.folder = folder
        self.addresses = {}
        self.servers = []
        tools = [str(Path(sys.executable).parent), str(ROOT / ".tools" / "bin")]
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("DES_", "AWS_"))
        } | {
            "PATH": os.pathsep.join([*tools, os.environ["PATH"]]),
            "DES_LISTEN": "127.0.0.1:0",
            "DES_HTTP_LISTEN": "127.0.0.1:0",
            "HOME": str(folder),
        }
        self.state = folder / ".state"
        self.state.touch()
        for name in ("README.md", "docs", "configs", "docker", "proto", "tests"):
            (folder / name).symlink_to(ROOT / name)

    def text(self, block):
        """Return a block with the addresses that the page's server has here."""
        text = block.server or block.text
        for said, real in self.addresses.items():
            text = text.replace(said, real)
        return text

    def start(self, block):
        log = self.folder / "server.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                ["bash", "-euc", f"set -a; . {self.state}; set +a; {self.text(block)}"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            )
        self.servers.append(process)
        ready, _, _ = select.select([process.stdout], [], [], BLOCK_S)
        found = SERVING.match(process.stdout.readline()) if ready else None
        assert found, (block.place, log.read_text()[-2000:])
        port = found["grpc"].rpartition(":")[2]
        self.addresses = {GRPC: f"127.0.0.1:{port}", HTTP: found["http"]}
        self.environment["DES_ADDRESS"] = f"127.0.0.1:{port}"

    def run(self, block):
        if block.language == "python":
            command = [sys.executable, "-c", self.text(block)]
        else:
            # Variables live on from block to block; the shell ends with the first command that fails.
            state = f"set -a; . {self.state}; set +a"
            kept = "declare -p | grep -v '^declare -[a-zA-Z]*r' | sed 's/^declare -- /declare -x /'"
            text = f"{state}\n{self.text(block)}\n{kept} > {self.state}"
            command = ["bash", "-euc", text]
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=BLOCK_S,
            check=False,
        )
        assert ran.returncode == 0, (block.place, ran.returncode, ran.stdout[-2000:], ran.stderr[-2000:])
        for expected in re.findall(r"# -> (.+)$", block.text, re.MULTILINE):
            assert expected in ran.stdout, (block.place, expected, ran.stdout[-2000:])

    def end(self):
        for process in self.servers:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            process.stdout.close()


RUN_PAGES = [
    page
    for page in PAGES
    if str(page.relative_to(ROOT)) not in ELSEWHERE and any(block.is_run for block in blocks(page))
]


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_do_what_it_says(page, tmp_path):
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool} (Debian: apt-get install {tool})")
    here = Page(tmp_path)
    try:
        for block in blocks(page):
            if not block.is_run:
                continue
            if block.server is not None:
                here.start(block)
            else:
                here.run(block)
    finally:
        here.end()


def test_pages_that_another_test_runs_are_named_there():
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text()
