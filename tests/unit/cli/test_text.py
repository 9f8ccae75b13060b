import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from des.cli import text

PATHS = st.binary(min_size=1).map(os.fsdecode)


@given(PATHS)
def test_any_path_becomes_one_printable_line_and_comes_back(path):
    line = text.escape(path)
    assert line.isprintable()
    assert text.unescape(line) == path


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("plain/ünï.txt", "plain/ünï.txt"),
        ("two\nlines\tand\\more", r"two\nlines\tand\\more"),
        ("\x1b[31mred", r"\u001b[31mred"),
        ("left\u202eright", r"left\u202eright"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
    ],
)
def test_escapes_are_what_the_manual_says(path, line):
    assert text.escape(path) == line


@pytest.mark.parametrize("line", ["\\", "a\\q", "\\x4", "\\xZZ", "\\U00110000"])
def test_a_backslash_that_starts_no_escape_is_refused(line):
    with pytest.raises(ValueError, match=r"escape|Unicode"):
        text.unescape(line)
