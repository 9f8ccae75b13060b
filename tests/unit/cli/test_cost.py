"""The bill, worked out by hand."""

import json
import re
from pathlib import Path

import pytest

from des.cli.costing import CLASSES, GB, Load, PriceError, Prices, Tier, compare, read_prices

FLAT = Prices(storage=(Tier(usd=0.1),), put_per_1000=5, get_per_1000=2)


def test_one_object_per_file_is_counted_and_priced():
    plain = compare(Load(files=2000, size_bytes=GB / 1000, reads_per_day=10), FLAT).plain
    assert (plain.objects, plain.puts) == (2000, 2000)
    assert plain.gets_month == pytest.approx(304)
    assert plain.write_usd == pytest.approx(2000 / 1000 * 5)
    assert plain.storage_usd_month == pytest.approx(2 * 0.1)
    assert plain.reads_usd_month == pytest.approx(304 / 1000 * 2)
    assert plain.first_year_usd() == pytest.approx(10 + 12 * (0.2 + 0.608))


def test_containers_are_counted_in_parts_and_reads_with_their_pages():
    load = Load(
        files=1_000_000, size_bytes=1000 - 179, reads_per_day=10, container_bytes=100_000_000, cold=0.5
    )
    des = compare(load, FLAT).des
    assert des.objects == 10  # 1,000 bytes a file with what finds it
    assert des.puts == 10 * (12 + 2)  # 100 MB are twelve parts of 8 MiB
    assert des.gets_month == pytest.approx(304 * 1.5)
    assert des.stored_gb == pytest.approx(1_000_000_000 / GB)


def test_a_container_of_one_part_is_one_request():
    assert compare(Load(files=10, size_bytes=100), FLAT).des.puts == 1


def test_files_shipped_before_a_seal_are_written_twice():
    load = Load(files=1_000_000, size_bytes=1000 - 179)
    once, twice = (compare(each, FLAT).des.puts for each in (load, Load(1_000_000, 821, stored=True)))
    assert twice - once == 120  # 10^9 bytes in objects of 8 MiB


def test_a_small_object_is_billed_at_the_minimum_of_its_class():
    found = compare(Load(files=1 << 20, size_bytes=1), CLASSES["standard-ia"])
    assert found.plain.billed_gb == 128
    assert found.plain.stored_gb == pytest.approx(2**-10)
    assert found.des.billed_gb == pytest.approx(found.des.stored_gb)


def test_storage_is_priced_in_steps():
    prices = CLASSES["standard"]
    assert prices.storage_month(1) == pytest.approx(0.023)
    assert prices.storage_month(50 * 1024 + 10) == pytest.approx(50 * 1024 * 0.023 + 10 * 0.022)
    assert prices.storage_month(500 * 1024 + 10) == pytest.approx(
        50 * 1024 * 0.023 + 450 * 1024 * 0.022 + 10 * 0.021
    )


@pytest.mark.parametrize(
    "text",
    [
        "storage: []\nput_per_1000: 1\nget_per_1000: 1",
        "storage: [{up_to_gb: 5, usd: 1}]\nput_per_1000: 1\nget_per_1000: 1",
        "storage: [{usd: 1}, {usd: 2}]\nput_per_1000: 1\nget_per_1000: 1",
        "storage: [{usd: 1}]\nput_per_1000: -1\nget_per_1000: 1",
        "storage: [{usd: 1}]\nput_per_1000: 1\nget_per_1000: 1\nother: 1",
        "- 1",
        "{",
    ],
)
def test_prices_that_make_no_sense_are_refused(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(PriceError, match="prices.yaml"):
        read_prices(path)


@pytest.mark.parametrize("wrong", [{"files": 0}, {"size_bytes": -1}, {"cold": 2}, {"ratio": 0}])
def test_a_load_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Load(**{"files": 1, "size_bytes": 1, **wrong})


def test_the_command_shows_what_the_documentation_shows(des):
    page = (Path(__file__).parents[3] / "docs/cost.md").read_text()
    shown = re.search(r"```text\n(.*?)```", page, re.DOTALL)[1]
    ran = des("cost", "--files", "1e9", "--size", "10KB", "--reads-per-day", "1e6")
    assert ran.code == 0
    assert ran.text.startswith(shown)
    for name, prices in CLASSES.items():
        row = re.search(rf"^\| `{name}` \|(.*)\|$", page, re.MULTILINE)[1]
        figures = {float(one) for one in re.findall(r"\b0\.\d+", row)}
        assert figures == {
            *(tier.usd for tier in prices.storage),
            prices.put_per_1000,
            prices.get_per_1000,
            *([prices.retrieval_per_gb] if prices.retrieval_per_gb else []),
        }


def test_single_prices_replace_those_of_the_class(des):
    ran = des(
        "cost", "--files", "1000", "--size", "1GiB", "--put-per-1000", "7", "--storage-per-gb", "1", "--json"
    )
    told = json.loads(ran.text)
    assert told["plain"]["write_usd"] == pytest.approx(7)
    assert told["plain"]["storage_usd_month"] == pytest.approx(1000)
    assert "some prices given" in told["source"]
    more = des(
        "cost", "--files", "1024", "--size", "1KiB", "--reads-per-day", "1024", "--retrieval-per-gb", "304",
        "--get-per-1000", "0", "--storage-per-gb", "1024", "--minimum-object", "1MiB", "--json",
    )  # fmt: skip
    told = json.loads(more.text)
    assert told["plain"]["storage_usd_month"] == pytest.approx(1024)  # 1,024 objects billed as 1 MiB each
    assert told["plain"]["reads_usd_month"] == pytest.approx(30.4 * 304 / 1024)
    assert des("cost", "--files", "1", "--size", "1", "--minimum-object", "x").code == 2
    assert des("cost", "--files", "1", "--size", "1", "--class", "x").code == 2
    assert des("cost", "--files", "1", "--size", "x").code == 2
