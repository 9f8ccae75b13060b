"""The history checker finds what no store may do, and nothing in what one may."""

import random

import pytest

from des.testing.history import Answer, Call, Event, lost, violations


def put(began, ended, answer=Answer.DONE, content="a"):
    return Event("n", Call.PUT, answer, began, ended, content)


def get(began, ended, content="a"):
    return Event("n", Call.GET, Answer.DONE if content else Answer.ABSENT, began, ended, content)


def delete(began, ended, answer=Answer.DONE):
    return Event("n", Call.DELETE, answer, began, ended)


def listed(began, ended, answer=Answer.DONE):
    return Event("n", Call.LIST, answer, began, ended)


def stat(began, ended, answer=Answer.DONE):
    return Event("n", Call.STAT, answer, began, ended)


UNKNOWN, REFUSED, ABSENT = Answer.UNKNOWN, Answer.REFUSED, Answer.ABSENT


@pytest.mark.parametrize(
    "history",
    [
        [put(0, 1), get(2, 3)],
        [put(0, 1), put(2, 3), get(4, 5)],
        [get(0, 1, ""), put(0, 5), get(2, 3), get(2, 3, ""), get(6, 7)],
        [put(0, 1, UNKNOWN), get(2, 3, ""), get(4, 5), get(6, 7)],
        [put(0, 1, UNKNOWN), get(2, 3, ""), get(8, 9, "")],
        [put(0, 1, UNKNOWN, "a"), put(0, 1, UNKNOWN, "b"), get(3, 4, "b"), get(5, 6, "b")],
        [put(0, 1, UNKNOWN, "a"), put(2, 3, Answer.DONE, "b"), get(4, 5, "b")],
        [put(0, 1), put(2, 3, REFUSED, "b"), get(4, 5)],
        [put(0, 1), delete(2, 3), get(4, 5, "")],
        [put(0, 1), listed(0.5, 2, ABSENT), listed(2, 3), delete(4, 5), listed(4, 6), listed(6, 7, ABSENT)],
        [put(0, 1), delete(2, 5), get(3, 4), get(3, 4, ""), get(6, 7, "")],
        [put(0, 1), delete(2, 3, UNKNOWN), get(4, 5), get(6, 7, "")],
        [put(0, 1), delete(2, 3), put(4, 5, REFUSED), get(6, 7, "")],
        [put(0, 5), delete(1, 2), get(6, 7, "")],
        [stat(0, 1, ABSENT), put(0, 5), stat(2, 3), stat(6, 7), delete(8, 9, UNKNOWN), stat(10, 11)],
        [delete(0, 1, ABSENT), put(2, 3), get(4, 5)],
    ],
)
def test_what_a_store_may_do_is_explained(history):
    assert violations(history) == []


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([put(0, 1), get(2, 3, "")], "absent for a get"),
        ([put(0, 1), get(2, 3, "b")], "other bytes"),
        ([put(0, 1, UNKNOWN), get(2, 3), get(4, 5, "")], "absent for a get"),
        ([put(0, 1, UNKNOWN, "a"), put(0, 1, UNKNOWN, "b"), get(2, 3, "a"), get(4, 5, "b")], "two contents"),
        ([put(0, 1), put(2, 3, Answer.DONE, "b")], "two contents were acknowledged"),
        ([get(0, 1), put(2, 3)], "nobody had begun"),
        ([put(0, 1), delete(2, 3), get(4, 5)], "deleted, and later read"),
        ([put(0, 1), listed(2, 3, ABSENT)], "absent for a list"),
        ([listed(0, 1), get(2, 3, "")], "absent for a get"),
        ([put(0, 1), delete(2, 3), listed(4, 5)], "deleted, and later there for a list"),
        ([put(0, 1), delete(2, 3), stat(4, 5)], "deleted, and later there for a stat"),
        ([put(0, 1), stat(2, 3, ABSENT)], "absent for a stat"),
        ([stat(0, 1), get(2, 3, "")], "absent for a get"),
        ([put(0, 1), delete(2, 3), put(4, 5)], "acknowledged again"),
        ([put(0, 1), delete(2, 3, UNKNOWN), get(4, 5, ""), get(6, 7)], "gone, and later read"),
        ([put(0, 1), delete(8, 9), get(2, 3, "")], "absent for a get"),
        ([put(0, 1), delete(2, 3, ABSENT)], "absent for a delete"),
    ],
)
def test_what_no_store_may_do_is_found(history, message):
    assert any(message in one.why for one in violations(history)), violations(history)


def test_names_do_not_mix():
    other = Event("m", Call.GET, Answer.ABSENT, 2, 3)
    assert violations([put(0, 1), other, get(4, 5)]) == []


def test_what_was_acknowledged_and_is_not_there_at_the_end_is_lost():
    assert lost([put(0, 1), get(2, 3)]) == []
    assert lost([put(0, 1)]) == ["n"]
    assert lost([put(0, 1), get(2, 3, "")]) == ["n"]
    assert lost([put(0, 1), delete(2, 3, UNKNOWN), get(4, 5, "")]) == []
    assert lost([put(0, 1, UNKNOWN), get(2, 3, "")]) == []
    assert lost([put(0, 1), Event("n", Call.GET, UNKNOWN, 2, 3)]) == ["n"]


class Store:
    """A store that does what it should, or one thing that it should not."""

    def __init__(self, dice, mutant=""):
        self.dice, self.mutant = dice, mutant
        self.files: dict[str, str] = {}
        self.deleted: set[str] = set()

    def put(self, name, content):
        if name in self.deleted:
            if self.mutant != "deleted names come back":
                return REFUSED
            del self.files[name]
        if name in self.files and self.files[name] != content and self.mutant != "overwrites":
            return REFUSED
        self.deleted.discard(name)
        if self.mutant == "acknowledges what it drops" and self.dice.random() < 0.1:
            return Answer.DONE
        self.files[name] = content
        return Answer.DONE

    def get(self, name):
        if name in self.deleted and self.mutant != "shows deleted files":
            return ""
        if self.mutant == "forgets for a while" and self.dice.random() < 0.05:
            return ""
        if self.mutant == "mixes files up" and self.files and self.dice.random() < 0.05:
            return self.dice.choice(sorted(self.files.values()))
        return self.files.get(name, "")

    def delete(self, name):
        if name not in self.files:
            return ABSENT
        if not (self.mutant == "forgets deletes" and self.dice.random() < 0.2):
            self.deleted.add(name)
        return Answer.DONE


MUTANTS = [
    "deleted names come back",
    "overwrites",
    "acknowledges what it drops",
    "shows deleted files",
    "forgets for a while",
    "mixes files up",
    "forgets deletes",
]


def history_of(seed, mutant=""):
    """Calls of several clients that overlap in time; each takes effect at a moment inside its span."""
    dice = random.Random(seed)
    store = Store(dice, mutant)
    begins: list[tuple[float, float, float, Call, str, str]] = []
    for client in range(4):
        now = 0.0
        for number in range(60):
            now += dice.random() * 0.2
            length = dice.random()
            name = f"n{dice.randrange(8)}"
            call = dice.choices([Call.PUT, Call.GET, Call.DELETE], [5, 10, 1])[0]
            moment = now + dice.random() * length
            begins.append((moment, now, now + length, call, name, f"{client}/{number}"))
            now += length
    events = []
    for _, began, ended, call, name, content in sorted(begins):
        happens = dice.random() < 0.95
        unknown = not happens or dice.random() < 0.05
        answer, seen = UNKNOWN, ""
        if happens:
            if call is Call.PUT:
                answer, seen = store.put(name, content), content
            elif call is Call.GET:
                seen = store.get(name)
                answer = Answer.DONE if seen else ABSENT
            else:
                answer = store.delete(name)
        if unknown:
            answer = UNKNOWN
        events.append(Event(name, call, answer, began, ended, content if call is Call.PUT else seen))
    return events


@pytest.mark.parametrize("seed", range(60))
def test_a_right_store_is_never_accused(seed):
    assert violations(history_of(seed)) == []


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_wrong_store_is_found(mutant):
    found = [seed for seed in range(40) if violations(history_of(seed, mutant))]
    assert found, mutant
    assert found[0] < 20, f"{mutant}: only from seed {found[0]} on"
