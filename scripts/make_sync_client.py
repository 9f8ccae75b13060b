"""Make the blocking client's modules from the asyncio client's: one source, two clients (docs/adr/0010).

    python scripts/make_sync_client.py [--check]

What both clients offer is written once, as coroutines, in client/des_client/aio. Without `async` and `await`,
and with other names, the same text is the blocking client. Hand-written twins are only what touches the wire
or a loop: transport, uploads,
downloads, streams, puller.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "client" / "des_client"
MODULES = ("files", "many", "batch", "listing", "shards", "client")

HEADER = "# Made by scripts/make_sync_client.py from des_client/aio/{module}.py: change that one.\n"

REPLACED = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r" in an? coroutine", ""),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsyncGenerator\[((?:[^\[\]]|\[[^\]]*\])+), None\]", r"Generator[\1, None, None]"),
    (r"\bAsyncGenerator\b", "Generator"),
    (r"\bIterable\[([^\[\]]*(?:\[[^\[\]]*\])?[^\[\]]*)\] \| AsyncIterable\[\1\]", r"Iterable[\1]"),
    (r"AsyncIterable, ", ""),
    (r"\bAwaitable\[([^\[\]]+)\]", r"\1"),
    (r"Awaitable, ", ""),
    (r"\baclosing\b", "closing"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\bAsync(?=(DesClient|Files|Downloads|Many|Batch|Listing|Shards|Transport|FileReader|FileList)\b)", ""),
    (r"des_client\.async_source import AsyncData", "des_client.source import Data"),
    (r"\bAsyncData\b", "Data"),
    (r"des_client\.aio\b", "des_client.sync"),
    (r"The asyncio client\.\"\"\"", 'The blocking client."""'),
    (
        r"A store, from asyncio code\. Any number of tasks of one event loop may share one\.",
        "A store, from blocking code. Any number of threads may share one.",
    ),
    (
        r"first call, and the client belongs to the loop of that call: another one\n    gets `WrongLoop`\.",
        "first call.",
    ),
    (r"; nothing is connected yet, and no loop need run\.", "; nothing is connected yet."),
)


def blocking(source: str, module: str) -> str:
    """Return the blocking module that an asyncio one stands for, before formatting."""
    for pattern, replacement in REPLACED:
        source = re.sub(pattern, replacement, source)
    return HEADER.format(module=module) + source


def formatted(source: str, module: str) -> str:
    """Sort the imports and lay the lines out, as `make format` would."""
    name = str(PACKAGE / "sync" / f"{module}.py")
    for command in (
        ("check", "--quiet", "--select", "I,F401,UP028,UP037", "--fix-only", "--unsafe-fixes"),
        ("format", "--quiet"),
    ):
        source = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", name, "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return source


def main() -> None:
    """Write the modules, or with --check say which are stale."""
    stale = []
    for module in MODULES:
        text = formatted(blocking((PACKAGE / "aio" / f"{module}.py").read_text(), module), module)
        target = PACKAGE / "sync" / f"{module}.py"
        if "--check" in sys.argv[1:]:
            if not target.exists() or target.read_text() != text:
                stale.append(str(target.relative_to(ROOT)))
        else:
            target.write_text(text)
    if stale:
        sys.exit(f"not what the asyncio client makes them: {', '.join(stale)}; run make sync-client")


if __name__ == "__main__":
    main()
