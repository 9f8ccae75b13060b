"""The blocking client is what the asyncio client makes it; both offer the same."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from des_client import AsyncDesClient, DesClient

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "make_sync_client.py"

spec = importlib.util.spec_from_file_location("make_sync_client", SCRIPT)
make_sync_client = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_sync_client)


def shape(source):
    """What code says, whatever its layout, the order of its imports and ruff's simplifications."""
    tree = ast.parse(source)
    tree.body = [one for one in tree.body if not isinstance(one, ast.Import | ast.ImportFrom)]
    text = ast.unparse(tree)
    return re.sub(r"for (\w+) in (.*):\n\s+yield \1", r"yield from \2", text).replace("'list[ShardInfo]'", "")


@pytest.mark.parametrize("module", make_sync_client.MODULES)
def test_every_module_is_what_its_source_makes_it(module):
    package = make_sync_client.PACKAGE
    made = make_sync_client.blocking((package / "aio" / f"{module}.py").read_text(), module)
    assert shape(made) == shape((package / "sync" / f"{module}.py").read_text()), "run make sync-client"


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def test_both_clients_offer_the_same():
    assert public(DesClient) == public(AsyncDesClient)
    for name in public(DesClient):
        blocking = inspect.signature(getattr(DesClient, name)).parameters
        asynchronous = inspect.signature(getattr(AsyncDesClient, name)).parameters
        assert list(blocking) == list(asynchronous), name
        assert [one.default for one in blocking.values()] == [one.default for one in asynchronous.values()]


def test_no_signature_shows_the_wire():
    for cls in (DesClient, AsyncDesClient):
        for name in public(cls):
            assert "pb2" not in str(inspect.signature(getattr(cls, name))), name


def test_every_public_call_is_documented():
    for cls in (DesClient, AsyncDesClient):
        for name in public(cls):
            assert getattr(cls, name).__doc__, name
