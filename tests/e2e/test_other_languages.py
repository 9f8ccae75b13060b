"""The programs of docs/clients.md, compiled by `make examples`, against a real server."""

import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / ".tools"
PROGRAMS = {
    "Go": [str(TOOLS / "example-go" / "example")],
    "TypeScript": ["node", str(TOOLS / "example-typescript" / "out" / "main.js")],
}


@pytest.mark.parametrize("language", PROGRAMS)
def test_a_program_in_another_language_puts_and_gets(server, language):
    command = PROGRAMS[language]
    if shutil.which(command[0]) is None or not Path(command[-1]).exists():
        pytest.skip(f"the {language} program is not compiled: make examples does that")
    ran = subprocess.run([*command, server.address], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    name, content = ran.stdout.strip().split(" ", 1)
    assert name.startswith("DES_")
    assert content == f"hello from {language}"
