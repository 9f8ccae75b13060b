"""What a torture says it counted is what it counted, and what it found wrong is told by name."""

import json
from types import SimpleNamespace

import pytest

from des.testing.history import Answer, Call, Event, violations
from tests.e2e.cluster_traffic import Traffic
from tests.e2e.cluster_verdict import Kind, Verdict


@pytest.fixture
def traffic():
    """Of three names: one is read as it was put, one is absent, one was deleted and is read and listed."""
    events = [Event(name, Call.PUT, Answer.DONE, 0, 1, "a") for name in ("kept", "absent", "back")]
    events += [Event("kept", Call.GET, Answer.DONE, 2, 3, "a")]
    events += [Event("absent", Call.GET, Answer.ABSENT, begun, begun + 1) for begun in (2, 4)]
    events += [Event("back", Call.DELETE, Answer.DONE, 2, 3)]
    events += [Event("back", Call.GET, Answer.DONE, 4, 5, "a"), Event("back", Call.LIST, Answer.DONE, 4, 5)]
    made = Traffic(SimpleNamespace(), 7, events=events, stored={"kept"})
    made.kinds.update({"auto": 3, "get": 4, "list": 1})
    return made


@pytest.fixture
def verdict(traffic):
    return Verdict(7, 3, traffic, faults=["cut_off", "cut_off", "store_down"])


def test_a_clean_verdict_says_of_what(verdict):
    verdict.judged = True
    assert verdict.is_clean()
    said = "\n".join(verdict.lines())
    assert "seed 7: 1 schedule, 3 of 3 faults; 8 calls, 9 answers about names, 0 failures" in said
    assert "3 acknowledged (1 as stored), 1 deleted, 0 lost, 0 doubled, 0 told wrong" in said
    assert "fsck clean" in said
    assert "faults: 2 cut_off, 1 store_down" in said


def test_violations_are_not_counted_as_names(verdict):
    found = violations(verdict.traffic.events)
    verdict.find(Kind.TOLD_WRONG, [(one.name, one.why) for one in found])
    verdict.judged = True
    assert len(found) == 4
    assert not verdict.is_clean()
    assert "0 doubled, 2 told wrong" in "\n".join(verdict.lines())
    said = verdict.told()
    assert "told wrong: 4 findings about 2 names" in said
    assert said.count("get absent") == 2
    assert "absent for a get" in said
    assert "kept" not in said


def test_what_was_not_looked_at_is_not_zero(verdict):
    assert not verdict.is_clean()
    said = "\n".join(verdict.lines())
    assert "3 acknowledged" in said
    assert "0 lost" not in said
    assert "fsck not run" in said
    assert "not everything" in verdict.told()


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.EPOCH, Kind.WATCH, Kind.FSCK])
def test_what_is_wrong_with_no_name_is_a_finding_too(verdict, kind):
    verdict.find(kind, [("", "said by a part")])
    verdict.judged = True
    assert not verdict.is_clean()
    assert "said by a part" in verdict.told()


def test_the_history_is_written_whole(verdict, tmp_path):
    verdict.write_history(tmp_path / "history.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(row["name"], row["call"], row["answer"]) for row in rows] == [
        (event.name, event.call, event.answer) for event in verdict.traffic.events
    ]
