"""What a record of the log is to a node that others took shards from."""

import pytest

from des.db.membership import Estate
from des.ingest.values import OpenFile
from des.node.cluster_duties import Fate, ForeignFiles, fate_of


def estate(*, settled_seq=0, owed=True):
    return Estate(
        shard=1,
        node="n",
        epoch=3,
        local_files=True,
        taken_ms=1,
        named_until_ms=1,
        settled_seq=settled_seq,
        owed=owed,
    )


@pytest.mark.parametrize(
    ("seq", "owns", "left", "expected"),
    [
        (5, True, None, Fate.OWN),
        (5, False, None, Fate.FOREIGN),
        (5, True, estate(), Fate.FOREIGN),
        (5, False, estate(), Fate.FOREIGN),
        (5, True, estate(settled_seq=6, owed=False), Fate.VOID),
        (5, False, estate(settled_seq=6), Fate.VOID),
        (6, True, estate(settled_seq=6, owed=False), Fate.OWN),
        (6, True, estate(settled_seq=6), Fate.FOREIGN),
        (6, False, estate(settled_seq=6, owed=False), Fate.FOREIGN),
    ],
)
def test_a_record_is_this_nodes_others_or_nobodys_any_more(seq, owns, left, expected):
    estates = {} if left is None else {1: left}
    assert expected == fate_of(1, seq, owns=owns, estates=estates)


def file(seq, shard=1):
    return OpenFile(f"f{seq}", 20260101, shard, seq, 0, 1, 0, b"", 1, 64)


def test_foreign_files_are_counted_until_they_are_home():
    foreign = ForeignFiles()
    foreign.add([file(7), file(3), file(5, shard=2)])
    assert [one.seq for one in foreign.waiting()] == [3, 5, 7]
    assert (len(foreign), foreign.count(1), foreign.settled_seq(1)) == (3, 2, 8)
    foreign.remove(file(7))
    foreign.remove(file(7))
    assert (len(foreign), foreign.count(1), foreign.settled_seq(1)) == (2, 1, 8)
    foreign.remove(file(3))
    assert (foreign.count(1), foreign.settled_seq(1), foreign.settled_seq(9)) == (0, 8, 0)
