"""What the statements over a source look like in each dialect: `statements.sql`, made anew by this module."""

import sys
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, make_url, select

from des.sources import statements
from des.sources.checkup import propose
from des.sources.config import SourceConfig
from des.sources.dialects import DIALECTS
from des.sources.source_table import SourceTable

GOLDEN = Path(__file__).parent / "statements.sql"
COMPILERS = {name: make_url(f"{dialect.driver}://").get_dialect()() for name, dialect in DIALECTS.items()}


def owners():
    return [
        Column("id", Integer, primary_key=True),
        Column("Key", String(1000)),
        Column("bucket", String(100)),
        Column("size", BigInteger),
        Column("created", DateTime),
        Column("customer no", String(20)),
    ]


def source():
    config = SourceConfig.model_validate(
        {
            "database": {"dialect": "sqlite", "path": "x"},
            "table": "doc",
            "schema": "own",
            "columns": {
                "id": "id",
                "key": "Key",
                "bucket": "bucket",
                "size": "size",
                "created_at": "created",
                "metadata": {"customer": "customer no"},
            },
            "status_values": {"pending": None},
            "filters": [
                {"column": "size", "op": "lt", "value": 100},
                {"column": "Key", "op": "prefix", "value": "a_b%"},
                {"column": "customer no", "op": "not_in", "values": ["x", "y"]},
            ],
            "mark": {"min_age_s": 60},
            "objects": {"buckets": ["docs"]},
        }
    )
    bare = Table("doc", MetaData(), *owners(), schema="own")
    managed = [
        Column(name, String(64))
        for name in ("des_status", "des_name", "des_claim", "des_error", "des_container", "des_checksum")
    ] + [Column(name, BigInteger) for name in ("des_hash", "des_shard", "des_claim_expires", "des_attempts")]
    whole = Table("doc", MetaData(), *owners(), *managed, schema="own")
    return SourceTable(config, whole), bare


def render():
    table, bare = source()
    lines = []
    for name, compiler in COMPILERS.items():
        dialect = DIALECTS[name]
        asked = {"now_ms": 1_000_000, "limit": 500}
        for title, statement in (
            ("time", select(dialect.now_ms())),
            ("eligible", statements.eligible(table, dialect, passed=(7,), **asked)),
            ("claimable", statements.claimable(table, dialect, shard=3, **asked)),
            ("abandoned", statements.abandoned(table, dialect, shard=3, store_mark="s:", after=9, **asked)),
            ("named_rows", statements.named_rows(table, status="marked", after=9, **asked)),
            ("lock_ids", statements.lock_ids(table, dialect, ids=[1, 2], status="marked")),
            ("take", statements.take(table, ids=[1, 2], token="t", expires_ms=5)),
            ("renew", statements.renew(table, ids=[1, 2], token="t", expires_ms=5)),
            ("mark", statements.mark(table)),
            ("pack", statements.pack(table, token="t")),
            ("give_back", statements.give_back(table, token="t")),
            ("counts", statements.counts(table)),
            ("failed", statements.failed(table, limit=5, after=3, reasons=["MISSING"])),
            ("revive", statements.revive(table)),
        ):
            compiled = statement.compile(dialect=compiler, compile_kwargs={"render_postcompile": True})
            lines += [f"-- {name}: {title}", " ".join(str(compiled).split()) + ";", ""]
        lines.append(f"-- {name}: what `des sources check` proposes")
        lines += [" ".join(line.split()) + ";" for line in propose(bare, table.config, compiler)] + [""]
    return "\n".join(lines)


def sections(text):
    return dict(part.split("\n", 1) for part in text.split("-- ")[1:])


@pytest.mark.parametrize("name", list(COMPILERS))
def test_the_statements_are_the_golden_ones(name):
    def of_dialect(text):
        return {title: body for title, body in sections(text).items() if title.startswith(f"{name}:")}

    assert of_dialect(GOLDEN.read_text()) == of_dialect(render())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("postgresql", "FOR UPDATE OF doc SKIP LOCKED"),
        ("mysql", "FOR UPDATE SKIP LOCKED"),
        ("mariadb", "FOR UPDATE SKIP LOCKED"),
        ("oracle", "FOR UPDATE SKIP LOCKED"),
        ("mssql", "WITH (UPDLOCK, ROWLOCK, READPAST)"),
    ],
)
def test_claims_pass_over_rows_that_others_have_locked(name, words):
    found = sections(render())
    for statement in ("eligible", "claimable", "abandoned", "lock_ids"):
        assert words in found[f"{name}: {statement}"]


def test_oracle_limits_in_a_subquery_since_a_limited_query_cannot_be_locked():
    claim = sections(render())["oracle: claimable"]
    inner = claim[claim.index("IN (SELECT") : claim.rindex(")")]
    assert "FETCH FIRST" in inner
    assert "FETCH FIRST" not in claim[claim.rindex(")") :]


if __name__ == "__main__":
    sys.exit(GOLDEN.write_text(render()) * 0)
