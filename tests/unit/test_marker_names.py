"""The mark below which a marker gives no name again."""

import pytest

from des.errors import DesError
from des.marker import NameMark


async def test_the_mark_is_found_again(tmp_path):
    assert NameMark(tmp_path).read() == 0
    await NameMark(tmp_path).reserve(1234)
    await NameMark(tmp_path).reserve(5678)
    assert NameMark(tmp_path).read() == 5678
    assert [path.name for path in tmp_path.iterdir()] == ["names.floor"]


async def test_a_damaged_mark_is_told_and_not_taken_for_none(tmp_path):
    (tmp_path / "names.floor").write_text("12x")
    with pytest.raises(DesError, match="holds '12x', expected milliseconds"):
        NameMark(tmp_path).read()


async def test_a_mark_that_cannot_be_kept_stops_the_names(tmp_path):
    with pytest.raises(DesError, match="cannot keep"):
        await NameMark(tmp_path / "absent").reserve(1)
