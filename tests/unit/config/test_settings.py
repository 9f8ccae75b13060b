"""Settings come from a file, then the environment, then flags; nothing unknown is swallowed."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from des.config import Settings, load_settings

EXAMPLE = Path(__file__).parents[3] / "configs" / "server.example.yaml"


def test_the_example_names_every_setting_with_its_default(tmp_path: Path) -> None:
    assert load_settings(EXAMPLE).model_dump() == load_settings().model_dump()
    written = yaml.safe_load(EXAMPLE.read_text())
    assert set(written) == set(Settings.model_fields)
    for group in ("log", "seal", "stored", "catalog", "limits", "s3", "redis"):
        assert set(written[group]) == set(type(getattr(load_settings(), group)).model_fields)


def test_flags_beat_the_environment_and_the_environment_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "des.yaml"
    file.write_text("name_prefix: FILE\nnode_id: 1\nshard_bits: 1\nseal: {age_s: 1, entries: 5}\n")
    monkeypatch.setenv("DES_NODE_ID", "2")
    monkeypatch.setenv("DES_SHARD_BITS", "2")
    monkeypatch.setenv("DES_SEAL__AGE_S", "2")
    settings = load_settings(file, shard_bits=3)
    assert (settings.name_prefix, settings.node_id, settings.shard_bits) == ("FILE", 2, 3)
    assert (settings.seal.age_s, settings.seal.entries) == (2, 5)


def test_flags_that_are_not_given_change_nothing() -> None:
    assert load_settings(node_id=None).model_dump() == load_settings().model_dump()


@pytest.mark.parametrize(
    ("text", "field"),
    [("nonsense: 1", "nonsense"), ("node_id: 256", "node_id"), ("log: {segments: 1}", "log.segments")],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, field: str) -> None:
    file = tmp_path / "des.yaml"
    file.write_text(text)
    with pytest.raises(ValidationError) as caught:
        load_settings(file)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [field]


def test_half_of_the_credentials_are_a_mistake() -> None:
    with pytest.raises(ValidationError, match="together, found one"):
        load_settings(s3={"access_key_id": "key"})


def test_a_redis_needs_a_place_and_its_password_is_not_shown() -> None:
    with pytest.raises(ValidationError, match=r"expected a Redis in redis\.url"):
        load_settings(index_cache="redis")
    settings = load_settings(index_cache="redis", redis={"url": "redis://:secret@cache.example/0"})
    assert ":secret@" not in repr(settings)
    assert settings.redis.url.get_secret_value().endswith("@cache.example/0")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_settings(tmp_path / "none.yaml")


def test_sizes_take_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DES_LOG__SEGMENT_BYTES", "1MiB")
    assert load_settings().log.segment_bytes == 1 << 20


def test_a_log_has_room_for_two_segments(tmp_path):
    with pytest.raises(ValidationError, match=r"log\.budget_bytes is 1000, expected room for two segments"):
        load_settings(data_dir=tmp_path, log={"budget_bytes": 1000})
    settings = load_settings(data_dir=tmp_path, log={"budget_bytes": 1000, "segment_bytes": 500})
    assert settings.log.budget_bytes == 1000
