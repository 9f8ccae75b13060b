"""Run one fuzz target: `python tests/fuzz/fuzz.py TARGET [libFuzzer options] [CORPUS...]`.

`make fuzz` runs each for a minute, from the corpus in the repository. A crash is written to the current
folder; `python tests/fuzz/fuzz.py TARGET FILE` repeats it.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["des"]):
    from targets import TARGETS


def main() -> None:
    """Fuzz until the options say stop."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(TARGETS)} [libFuzzer options] [CORPUS...]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
