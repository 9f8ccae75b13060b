"""What MkDocs asks while it builds the site (`make docs`): made pages, links, navigation."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))

import docs_reference  # noqa: E402  it lies beside this file, which MkDocs loads by path

OUTSIDE = {
    "../README.md": "index.md",
    "../client/README.md": "client.md",
    "../configs/server.example.yaml": "reference/settings.md",
    "../proto/des_proto/v1": "reference/grpc.md",
    "../SECURITY.md": "security.md",
}
"""What pages say of files beside docs/, and where the site has it."""


def on_config(config: Any) -> Any:
    """Put every page that the navigation does not name at its end, decisions under their own heading."""
    named = set(re.findall(r"[\w/-]+\.md", str(config["nav"])))
    docs = Path(config["docs_dir"])
    more = sorted(path.name for path in docs.glob("*.md") if path.name not in named)
    config["nav"] += [{"More": more}] if more else []
    numbered = [f"adr/{path.name}" for path in sorted((docs / "adr").glob("0*.md"))]
    config["nav"].append({"Decisions": ["adr/README.md", *numbered]})
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that are made."""
    made = {
        "client.md": (ROOT / "client" / "README.md").read_text(encoding="utf-8"),
        "reference/settings.md": docs_reference.settings(),
        "reference/commands.md": docs_reference.commands(),
        "reference/grpc.md": docs_reference.protos(),
    }
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point links that leave docs/ at what the site has in their place."""
    up = "../" * page.file.src_uri.count("/")
    for target, place in OUTSIDE.items():
        markdown = re.sub(rf"\]\((?:\.\./)*{re.escape(target)}(#[\w-]+)?\)", rf"]({up}{place}\1)", markdown)
    return re.sub(r"\]\(\.\./docs/", f"]({up}", markdown)
