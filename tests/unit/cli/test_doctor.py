"""`des doctor` says what is wrong, what to do, and changes nothing."""

import asyncio
import json
import sqlite3
from pathlib import Path

import google_crc32c

from des.config import load_settings
from des.files import FileSpec
from des.node import Node


def findings(ran) -> list[dict]:
    return [json.loads(line) for line in ran.text.splitlines()]


def test_a_store_that_is_not_there_yet_is_fine_and_stays_away(des, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    ran = des("doctor", "--data-dir", str(folder))
    assert ran.code == 0
    assert ran.text.count("made by the first start") == 3
    assert not folder.exists()


def test_the_store_of_another_catalog_is_told(des, tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    objects.mkdir()
    (objects / "des-store-id").write_text("another-store\n")
    ran = des("doctor", "--data-dir", str(tmp_path), "--json")
    assert ran.code == 0
    assert "another-store" in findings(ran)[-1]["found"]
    catalog = tmp_path / "catalog.sqlite"
    with sqlite3.connect(catalog) as database:
        database.execute("CREATE TABLE x (y)")
    catalog.write_bytes(b"not a database" * 100)
    ran = des("doctor", "--data-dir", str(tmp_path), "--json")
    assert ran.code == 1
    assert [one["verdict"] for one in findings(ran)].count("failed") >= 1


def test_what_waits_in_logs_is_told(des, tmp_path: Path) -> None:
    async def leave_one_open() -> None:
        seal = {"checkpoint_s": 0.05, "check_interval_s": 0.02}
        node = await Node.open(load_settings(data_dir=tmp_path / "data", seal=seal))
        data = b"12345"
        await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
        async with asyncio.timeout(60):
            while not await node._doors.catalog.open_containers():
                await asyncio.sleep(0.02)
        await node.close()

    asyncio.run(leave_one_open())
    ran = des("doctor", "--data-dir", str(tmp_path / "data"))
    assert ran.code == 0
    assert "1 files of 0 MiB wait for containers in the logs of 1 nodes" in ran.text
    assert "; 1 of them where no node runs now" in ran.text


def test_an_object_store_that_does_not_answer_is_unavailable(des, tmp_path: Path) -> None:
    ran = des(
        "doctor", "--data-dir", str(tmp_path), "--set", "object_store=s3://bucket/x",
        "--set", "s3.endpoint_url=http://127.0.0.1:9", "--set", "s3.attempts=1",
        "--set", "s3.access_key_id=a", "--set", "s3.secret_access_key=canary",
    )  # fmt: skip
    assert ran.code == 3
    assert "FAIL  object store: no answer of the store" in ran.text
    assert "canary" not in ran.text + ran.err


def test_a_full_disk_is_told(des, tmp_path: Path) -> None:
    ran = des("doctor", "--data-dir", str(tmp_path), "--set", "log.reserve_free_bytes=1000000GiB")
    assert ran.code == 1
    assert "below it writes are refused" in ran.text
