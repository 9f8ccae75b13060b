"""`source_databases.yaml`: the example loads, and every mistake is told with its place."""

import re
from pathlib import Path

import pytest
import yaml

from des.sources import SourceConfigError, load_sources
from des.sources.config import ColumnsConfig, SourceConfig
from des.sources.config_file import parse_sources

EXAMPLE = Path(__file__).parents[3] / "configs" / "source_databases.yaml"
ENVIRONMENT = {
    "INVOICES_PASSWORD": "p@ss/w:rd",
    "INVOICES_S3_ACCESS_KEY": "AK",
    "INVOICES_S3_SECRET_KEY": "SK",
    "SCANS_PASSWORD": "x",
}
SMALL = """
sources:
  notes:
    database: {dialect: sqlite, path: notes.sqlite}
    table: notes
    columns: {id: id, key: path}
    objects: {buckets: [notes], bucket: notes}
"""


def mistakes(text, environment=None):
    with pytest.raises(SourceConfigError) as caught:
        parse_sources(text, "s.yaml", environment or {})
    return str(caught.value).splitlines()


def changed(**source):
    content = yaml.safe_load(SMALL)
    notes = content["sources"]["notes"]
    for key, value in source.items():
        notes[key] = {**notes[key], **value} if isinstance(value, dict) and key in notes else value
    return yaml.safe_dump(content)


def test_the_example_loads():
    config = load_sources(EXAMPLE, ENVIRONMENT)
    assert list(config.enabled) == ["invoices", "scans"]
    invoices = config.sources["invoices"]
    assert invoices.database.password.get_secret_value() == "p@ss/w:rd"
    assert invoices.schema_name == "public"
    assert invoices.claim.timeout_s == 3600
    assert [one.op for one in invoices.filters] == ["in", "lt", "prefix", "is_null"]


def test_the_example_shows_every_key_of_a_source():
    shown = yaml.safe_load(EXAMPLE.read_text())["sources"]["invoices"]
    fields = {"schema" if name == "schema_name" else name for name in SourceConfig.model_fields}
    assert set(shown) == fields
    assert set(shown["columns"]) == set(ColumnsConfig.model_fields)
    for part in ("status_values", "mark", "claim"):
        assert set(shown[part]) == set(SourceConfig.model_fields[part].annotation.model_fields)
    assert set(SourceConfig.model_fields["objects"].annotation.model_fields) - {"bucket"} == set(
        shown["objects"]
    )


def test_the_example_holds_the_defaults_of_the_workers():
    config = load_sources(EXAMPLE, ENVIRONMENT)
    assert config.marker == type(config.marker)()
    assert config.packer == type(config.packer)()


def test_secrets_are_not_printed():
    config = load_sources(EXAMPLE, ENVIRONMENT)
    assert "p@ss" not in repr(config)
    assert "SK" not in repr(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (changed(tabel="x"), "s.yaml: sources.notes.tabel: unknown key"),
        (changed(columns={"idd": "x"}), "s.yaml: sources.notes.columns.idd: unknown key"),
        (SMALL.replace("    table: notes\n", ""), "s.yaml: sources.notes.table: missing"),
        (
            changed(claim={"batch_size": 0}),
            "s.yaml: sources.notes.claim.batch_size: found 0, expected greater than or equal to 1",
        ),
        (
            changed(database={"dialect": "db2", "path": "x"}),
            (
                "s.yaml: sources.notes.database.dialect: found 'db2', expected 'postgresql', 'mysql', "
                "'mariadb', 'oracle', 'mssql' or 'sqlite'"
            ),
        ),
        (
            changed(database={"dialect": "postgresql"}),
            "s.yaml: sources.notes.database: postgresql takes `host`, `name` and `user`, and no `path`",
        ),
        (
            changed(objects={"size_bytes_max": "much"}),
            "sources.notes.objects.size_bytes_max: found 'much', expected a size such as 1048576 or 64MiB",
        ),
        (
            changed(columns={"name": "path"}),
            "s.yaml: sources.notes.columns: column 'path' stands for both key and name",
        ),
        (
            changed(columns={"bucket": "b"}),
            "s.yaml: sources.notes: expected either `columns.bucket` or `objects.bucket`, and not both",
        ),
        (
            changed(mark={"min_age_s": 5}),
            "s.yaml: sources.notes: `mark.min_age_s` needs `columns.created_at`",
        ),
        (
            changed(status_values={"pending": 1}),
            (
                "s.yaml: sources.notes.status_values: status values are [1, 'marked', 'claimed', 'packed', "
                "'failed'], expected all text or all whole numbers"
            ),
        ),
        (
            changed(columns={"metadata": {"Bad Key": "x"}}),
            (
                "s.yaml: sources.notes.columns.metadata: metadata key 'Bad Key' is reserved, or not 1 to 63 "
                "of a-z, 0-9, '_', '.', '-'"
            ),
        ),
        (
            changed(filters=[{"column": "a", "op": "like", "value": "x"}]),
            "s.yaml: sources.notes.filters.0.op: found 'like', expected 'eq', 'ne'",
        ),
        (
            changed(filters=[{"column": "a", "op": "in", "values": []}]),
            "s.yaml: sources.notes.filters.0.values: found a list of 0, ",
        ),
        (changed(objects={"buckets": ["other"]}), "s.yaml: sources.notes.objects: bucket 'notes' is not in"),
        ("sources: {}", "s.yaml: sources: "),
        ("[1, 2]", "s.yaml: holds a list, expected keys marker, packer and sources"),
        ("a: [", "s.yaml: not YAML"),
        ("a: 1\na: 2", "s.yaml: not YAML: key 'a' stands twice"),
        ("1: 2", "s.yaml: not YAML: key is 1, expected text"),
        ("!!python/object/apply:os.system ['true']", "s.yaml: not YAML: could not determine a constructor"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper than 20 levels"),
        (changed(name_prefix="no prefix"), "s.yaml: sources.notes.name_prefix: prefix is 'no prefix'"),
        (
            changed(columns={"key": "x\ny"}),
            "s.yaml: sources.notes.columns.key: found 'x\\ny', string should match pattern",
        ),
    ],
)
def test_a_mistake_names_file_path_and_what_was_expected(text, expected):
    found = mistakes(text)
    assert any(expected in line for line in found), found


def test_a_missing_variable_is_named_with_its_place():
    text = SMALL.replace("table: notes", "table: ${DES_NOT_SET}")
    assert mistakes(text) == ["s.yaml: sources.notes.table: the environment has no variable DES_NOT_SET"]
    assert mistakes(SMALL.replace("table: notes", "table: ${}")) == [
        "s.yaml: sources.notes.table: found '${}', expected ${NAME}"
    ]


def test_what_a_variable_holds_is_text_and_never_yaml():
    text = SMALL.replace("table: notes", "table: x${NAME}$$")
    config = parse_sources(text, "s.yaml", {"NAME": "{a: [1]}: ${OTHER}"})
    assert config.sources["notes"].table == "x{a: [1]}: ${OTHER}$"


def test_a_wrong_secret_is_not_shown():
    text = changed(objects={"access_key": 12345678})
    assert not any(re.search("12345678", line) for line in mistakes(text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceConfigError, match=r"nothing\.yaml: cannot be read: No such file"):
        load_sources(tmp_path / "nothing.yaml", {})
