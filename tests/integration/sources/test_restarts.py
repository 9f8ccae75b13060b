"""A source database that is killed and starts again inside a transaction: every row is packed once."""

import contextlib
import hashlib
import time

import pytest
from sqlalchemy import event

from des.errors import DesError, UnavailableError
from des.testing.source_databases import temporary_source

FILES = 12
DEADLINE_S = 200


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def table(request, tmp_path_factory):
    with temporary_source(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


class Trap:
    """Restarts the database once, at one moment of the connector's next transaction that updates rows."""

    def __init__(self, world, moment):
        self.restart = world.table.restart
        self.moment = moment
        self.sprung = False
        self.updated = False
        self.engine = world.connector._engine._engine
        self.plain_commit = self.engine.dialect.do_commit

    def __enter__(self):
        event.listen(self.engine, "before_cursor_execute", self.before)
        event.listen(self.engine, "after_cursor_execute", self.after)
        self.engine.dialect.do_commit = self.commit
        return self

    def __exit__(self, *_):
        event.remove(self.engine, "before_cursor_execute", self.before)
        event.remove(self.engine, "after_cursor_execute", self.after)
        del self.engine.dialect.do_commit
        assert self.sprung

    def before(self, _connection, _cursor, statement, _parameters, _context, _many):
        if statement.startswith("UPDATE") and self.moment == "rows are locked":
            self.spring()

    def after(self, _connection, _cursor, statement, _parameters, _context, _many):
        self.updated = self.updated or statement.startswith("UPDATE")
        if self.updated and self.moment == "rows are written":
            self.spring()

    def commit(self, connection):
        self.plain_commit(connection)
        if self.updated and self.moment == "the commit was done and its answer is lost" and not self.sprung:
            self.spring()
            with contextlib.closing(connection.cursor()) as cursor:
                cursor.execute("SELECT 1")  # fails as the driver fails

    def spring(self):
        if not self.sprung:
            self.sprung = True
            self.restart()


async def until(work, done):
    """Repeat `work`, which may fail while the database is away, until `done`."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline
        with contextlib.suppress(UnavailableError):
            await work()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "moment", ["rows are locked", "rows are written", "the commit was done and its answer is lost"]
)
async def test_a_database_that_restarts_when(world, moment):
    data = {f"in/{number}": bytes([number]) * 100 * number for number in range(1, FILES + 1)}
    world.objects(**data)
    # A claim that was made without this process's knowing is found by the search for expired ones.
    await world.start(packer={"expired_check_s": 0.2, "backoff_max_s": 0.5})

    def states(*wanted):
        return lambda: set(world.table.statuses()) <= set(wanted)

    with Trap(world, moment), pytest.raises(DesError):
        await world.mark()
    await until(world.mark, states("marked"))
    names = {row.id: row.des_name for row in world.table.rows()}

    with Trap(world, moment):
        await world.ingest.step()
    await until(world.ingest.step, lambda: world.count("appended") + world.count("known") == FILES)
    assert world.table.statuses() == {"claimed": FILES}

    with Trap(world, moment):
        await world.seal()
    await until(world.seal, states("packed"))

    assert world.copies() == dict.fromkeys(names.values(), 1)
    for number, expected in enumerate(data.values(), 1):
        row = world.row(number)
        assert row.des_name == names[number], "a name is given once"
        assert row.des_checksum == hashlib.sha256(expected).hexdigest()
        assert await (await world.node.open_file(row.des_name)).read_whole() == expected
    assert [world.count(outcome) for outcome in ("gone", "changed", "lost", "failed")] == [0, 0, 0, 0]
