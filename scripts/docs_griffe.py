"""Shows the examples in docstrings as code: between `>>>` and the next empty line."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(>>> (?:.*\n?)(?:.+\n?)*)", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts a fence around every example of a docstring, which MkDocs takes for a quotation otherwise."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = EXAMPLE.sub(
                lambda found: f"```pycon\n{found[1].rstrip()}\n```\n", obj.docstring.value
            )
