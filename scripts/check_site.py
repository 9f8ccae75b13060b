"""Refuses a built site that would load anything from another host: check_site.py FOLDER."""

import re
import sys
from pathlib import Path

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)[^>]+src=["'](https?:|//)[^"']*|"""
    r"""<link[^>]+rel=["'](?:stylesheet|preload|preconnect|icon)["'][^>]+href=["'](https?:|//)[^"']*|"""
    r"""@import\s+(?:url\()?["']?(?:https?:)?//"""
)


def main(folder: Path) -> int:
    """Print what each page or style sheet would load."""
    pages = [path for path in folder.rglob("*") if path.suffix in {".html", ".css"}]
    found = [
        f"{path.relative_to(folder)}: {match[0]}"
        for path in sorted(pages)
        for match in LOADED.finditer(path.read_text(encoding="utf-8"))
    ]
    print("\n".join(found) or f"{len(pages)} pages and style sheets load nothing from other hosts")
    return int(bool(found) or not pages)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
