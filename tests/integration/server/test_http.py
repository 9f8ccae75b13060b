"""The HTTP port of a server over a real node: names, files, the page that explains them."""

import base64
import contextlib
import os
import re

import google_crc32c
import httpx
import pytest
from des_server.app import build_server
from des_server.http_bodies import BODY_BYTES_MAX
from des_server.http_files import parse_range

from des.config import Settings
from des.files import FileSpec
from des.naming import consistent_hash, parse_name
from des.node import Node

MIB = 1 << 20


@pytest.fixture
async def node(tmp_path):
    settings = Settings(data_dir=tmp_path, listen="127.0.0.1:0", http_listen="127.0.0.1:0", shard_bits=1)
    node = await Node.open(settings)
    yield node
    await node.close()


@pytest.fixture
async def server(node):
    server = build_server(node, node.settings)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http(server):
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as client:
        yield client


async def put(node, data, **spec):
    return (await node.put_bytes(FileSpec(**spec), data, google_crc32c.value(data))).file


async def test_a_name_is_given_with_shard_and_day(http):
    answers = [
        (await http.post("/assign", json={"prefix": "IMG", "meta_hint": "cat"})).json() for _ in range(5)
    ]
    assert len({answer["name"] for answer in answers}) == 5
    for answer in answers:
        parsed = parse_name(answer["name"])
        assert parsed.prefix == "IMG"
        assert answer["shard_id"] == consistent_hash(answer["name"], 1)
        assert answer["day"].replace("-", "") == parsed.day
    assert (await http.post("/assign", json={})).json()["name"].startswith("DES_")


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b'{"prefix": "no good"}', 400, "INVALID_NAME"),
        (b'{"prefix": 5}', 422, "INVALID_FIELD"),
        (b"not json", 422, "INVALID_FIELD"),
        (b"", 422, "INVALID_FIELD"),
        (b'{"meta_hint": "' + b"x" * 2000 + b'"}', 422, "INVALID_FIELD"),
    ],
)
async def test_what_cannot_be_named_is_a_problem(http, content, status, reason):
    answer = await http.post("/assign", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], answer.json()["reason"]) == (status, reason)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("size", [0, 10, 3 * MIB + 5])
async def test_a_file_is_fetched_whole_with_what_is_known_of_it(http, node, sealed, size):
    data = os.urandom(size)
    info = await put(node, data, content_type="image/png")
    if sealed:
        await node.seal_shard(info.shard)
    answer = await http.get(f"/files/{info.name}")
    assert (answer.status_code, answer.content) == (200, data)
    headed = await http.head(f"/files/{info.name}")
    assert (headed.status_code, headed.content) == (200, b"")
    for found in (answer, headed):
        assert found.headers["content-type"] == "image/png"
        assert found.headers["content-length"] == str(size)
        assert found.headers["accept-ranges"] == "bytes"
        assert found.headers["x-des-crc32c"] == f"{google_crc32c.value(data):08x}"
        digest = re.fullmatch(r"crc32c=:(.*):", found.headers["repr-digest"])[1]
        assert base64.b64decode(digest) == google_crc32c.value(data).to_bytes(4, "big")
        assert found.headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize(
    ("content_type", "served", "shown"),
    [
        ("text/html", "text/html", "attachment"),
        ("image/svg+xml", "image/svg+xml", "attachment"),
        ("application/javascript", "application/javascript", "attachment"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8", "inline"),
        ("image/png", "image/png", "inline"),
        ("", "application/octet-stream", "attachment"),
        ("no type", "application/octet-stream", "attachment"),
        ("tekst/żółty", "application/octet-stream", "attachment"),
    ],
)
async def test_stored_pages_cannot_act_on_this_origin(http, node, content_type, served, shown):
    info = await put(node, b"<script>alert(1)</script>", content_type=content_type)
    headers = (await http.get(f"/files/{info.name}")).headers
    assert headers["content-type"] == served
    assert headers["content-disposition"].partition(";")[0] == shown
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize("size", [26, 2 * MIB])
async def test_ranges_are_those_of_rfc_9110(http, node, size):
    data = (b"abcdefghijklmnopqrstuvwxyz" * (size // 26 + 1))[:size]
    info = await put(node, data)
    for header, expected in [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=20-", (20, size)),
        ("bytes=-3", (size - 3, size)),
        (f"bytes=-{size + 9}", (0, size)),
        (f"bytes=5-{size + 100}", (5, size)),
        ("BYTES = 1-2", (1, 3)),
    ]:
        answer = await http.get(f"/files/{info.name}", headers={"range": header})
        assert answer.status_code == 206, header
        start, stop = expected
        assert answer.content == data[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert answer.headers["content-length"] == str(stop - start)
        assert "x-des-crc32c" not in answer.headers
    for header in ("bytes=1-2,4-5", "bytes=5-2", "bytes=-", "bytes=x-2", "lines=1-2", "bytes", ""):
        answer = await http.get(f"/files/{info.name}", headers={"range": header})
        assert (answer.status_code, answer.content) == (200, data), header
    for header in (f"bytes={size}-", "bytes=-0", f"bytes={size + 5}-{size + 9}"):
        answer = await http.get(f"/files/{info.name}", headers={"range": header})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.json()["reason"] == "RANGE_NOT_SATISFIABLE"


def test_no_range_lies_in_an_empty_file():
    assert parse_range(None, 0) is None
    for header in ("bytes=0-", "bytes=-1"):
        with pytest.raises(LookupError):
            parse_range(header, 0)


async def test_validators_spare_the_bytes(http, node):
    info = await put(node, b"0123456789")
    path = f"/files/{info.name}"
    etag = (await http.get(path)).headers["etag"]
    assert re.fullmatch(r'"[0-9a-f-]+"', etag)
    for known in (etag, "*", f'"other", W/{etag}'):
        for call in (http.get, http.head):
            answer = await call(path, headers={"if-none-match": known})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == etag
    assert (await http.get(path, headers={"if-none-match": '"other"'})).status_code == 200
    assert (await http.get(path, headers={"if-match": etag})).status_code == 200
    assert (await http.get(path, headers={"if-match": f"W/{etag}"})).status_code == 412
    for if_range, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200), ("Tue, 01 Jan 2030", 200)):
        answer = await http.get(path, headers={"range": "bytes=1-2", "if-range": if_range})
        assert answer.status_code == status


async def test_what_is_not_there_is_a_problem(http, node, server):
    [assigned] = await node.assign_names(1, "", "")
    for name, status, reason in [
        (assigned.name, 404, "FILE_NOT_FOUND"),
        ("no name", 400, "INVALID_NAME"),
        ("%00", 400, "INVALID_NAME"),
    ]:
        answer = await http.get(f"/files/{name}")
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await http.head(f"/files/{name}")).status_code == status
    info = await put(node, b"gone")
    await node.delete_many([info.name], allow_missing=False)
    answer = await http.get(f"/files/{info.name}")
    assert (answer.status_code, answer.json()["reason"]) == (410, "FILE_DELETED")
    for call, path, status in [
        (http.put, f"/files/{info.name}", 405),
        (http.delete, f"/files/{info.name}", 405),
        (http.get, "/files/", 404),
        (http.get, "/files/../../etc/passwd", 404),
        (http.get, "/nothing", 404),
    ]:
        answer = await call(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert not server.inflight.count


async def test_a_reader_that_goes_away_is_counted_out(http, node, server):
    info = await put(node, os.urandom(9 * MIB))
    async with http.stream("GET", f"/files/{info.name}") as answer:
        async for _ in answer.aiter_bytes(1000):
            assert server.inflight.count == 1
            break
    for _ in range(1000):
        if not server.inflight.count:
            break
        await http.get("/health/live")
    assert not server.inflight.count


async def test_the_page_and_its_document_need_no_other_host(http):
    page = await http.get("/docs")
    assert page.status_code == 200
    assert "/files/{name}" in page.text
    assert "POST" in page.text
    assert not re.search(r"(src|href)=.?(https?:)?//", page.text)
    assert "<script" not in page.text
    document = (await http.get("/openapi.json")).json()
    assert {"/assign", "/files/{name}", "/metrics", "/health", "/health/live", "/health/ready"} <= set(
        document["paths"]
    )
    assert set(document["paths"]["/files/{name}"]) == {"get", "head"}


async def test_metrics_count_what_went_over_http(http, node):
    info = await put(node, b"abc")
    await http.get(f"/files/{info.name}")
    await http.post("/assign", json={})
    text = (await http.get("/metrics")).text
    assert "des_http_assigned_names_total 1.0" in text
    assert "des_get_files_total 1.0" in text


async def test_a_body_that_is_too_long_is_refused(http):
    answer = await http.post("/assign", content=b"x" * (BODY_BYTES_MAX + 1))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await http.post("/assign", json={"prefix": "IMG"})).status_code == 200


async def test_a_body_without_end_is_cut_off(http):
    async def endless():
        while True:
            yield b"x" * 4096

    # The connection is closed under the sender, who may or may not still see the answer.
    with contextlib.suppress(httpx.TransportError):
        answer = await http.post("/assign", content=endless(), headers={"content-type": "application/json"})
        assert answer.status_code == 413
    assert (await http.post("/assign", json={"prefix": "IMG"})).status_code == 200
