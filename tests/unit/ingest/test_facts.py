"""What the log keeps of a file besides its bytes goes in and comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from des.ingest.facts import BadFactsError, ExternalObject, FileFacts

text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)


@given(
    st.builds(
        FileFacts,
        content_type=text,
        metadata=st.dictionaries(text, text, max_size=4),
        request_id=text,
        external=st.none()
        | st.builds(
            ExternalObject,
            key=text,
            etag=text,
            block_size=st.integers(1, 1 << 22),
            block_crc32c=st.lists(st.integers(0, (1 << 32) - 1), max_size=5).map(tuple),
        ),
    )
)
def test_facts_round_trip(facts: FileFacts) -> None:
    assert FileFacts.decode(facts.encode()) == facts


def test_nothing_to_say_costs_nothing() -> None:
    assert FileFacts().encode() == b""


@pytest.mark.parametrize("data", [b"[1]", b"{", b"\xff", b'{"external":{}}', b'{"external":{"key":1}}', b"7"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadFactsError):
        FileFacts.decode(data)
