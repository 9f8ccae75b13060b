"""Three real source databases; a server lives as long as the tests of this folder."""

import warnings

import boto3
import pytest
from moto.server import ThreadedMotoServer

from des.sources import ClaimOwner, SourceDatabaseConnector
from des.testing.source_databases import KINDS, temporary_source
from tests.integration.sources.world import World

OWNER = ClaimOwner("0b4c1f6e-0000-4000-8000-000000000000", "11111111-0000-4000-8000-000000000000")
OTHER = ClaimOwner("0b4c1f6e-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000")
STRANGER = ClaimOwner("ffffffff-0000-4000-8000-000000000000", "33333333-0000-4000-8000-000000000000")


@pytest.fixture(scope="session", params=KINDS)
def server(request, tmp_path_factory):
    with temporary_source(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def database(server):
    """The server of the parameter, with an empty table."""
    server.empty()
    return server


@pytest.fixture
async def connect(database):
    """Open connectors; they are closed at the end of the test."""
    made = []

    def make(**changes):
        connector = SourceDatabaseConnector("docs", database.config(**changes))
        made.append(connector)
        return connector

    yield make
    for connector in made:
        await connector.close()


@pytest.fixture
def owners():
    return OWNER, OTHER, STRANGER


@pytest.fixture(scope="session")
def s3():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto's own
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="AK",
            aws_secret_access_key="SK",
        )
        for bucket in ("docs", "secret"):
            client.create_bucket(Bucket=bucket)
        yield client, f"http://{host}:{port}"
        client.close()
        server.stop()


@pytest.fixture
async def world(table, s3, tmp_path):
    """A node that ingests from the test's `table`, which is empty."""
    table.empty()
    made = World(table, s3, tmp_path / "data")
    yield made
    await made.stop()
