"""`des health`: one question to a running process, for probes."""

import json
import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Annotated, Final

import typer
from des_server.listen import Address, AddressInvalidError

from des.cli import options, settings
from des.cli.exits import Exit, Failure
from des.cli.report import print_json, print_line

app = typer.Typer(add_completion=False, rich_markup_mode=None)

TIMEOUT_S: Final = 2.0
ANSWER_BYTES_MAX: Final = 1 << 20
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  it is asked, not bound
"""Who listens on every address is asked on loopback."""


@app.command()
def health(
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Only whether the process answers, whatever it lacks.")
    ] = False,
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The HTTP port, if not that of the settings; for des-marker."),
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--plain", help="How it is served, if not as the settings say.")
    ] = None,
    timeout_s: options.Timeout = TIMEOUT_S,
    config: settings.Config = None,
    sets: settings.Set = None,
    as_json: options.Json = False,
) -> None:
    """Ask the server of these settings, on this machine, whether it is ready; exit code 0 if so, else 3.

    Takes the settings that the server itself takes, and so finds its HTTP port. With TLS the certificate is
    not looked at: it stands for a name, the probe calls an address, and nothing secret is sent.
    """
    given = settings.load(config, settings.flags(sets))
    where = given.http_listen if http is None else http
    if not where:
        raise Failure("the settings have no http_listen to ask", code=Exit.USAGE)
    try:
        address = Address.parse(where)
    except AddressInvalidError as error:
        raise Failure(str(error), code=Exit.USAGE) from None
    encrypted = given.tls.cert is not None if tls is None else tls
    path = "/health/live" if live else "/health/ready"
    try:
        status, told = _ask(address, path, timeout_s=timeout_s, tls=encrypted)
    except (OSError, HTTPException) as error:
        raise Failure(f"{address} does not answer: {error}", code=Exit.UNAVAILABLE) from None
    if as_json:
        print_json(told)
    else:
        print_line(str(told.get("status", status)))
    if status != HTTPStatus.OK:
        raise Failure(str(told.get("cause") or f"answered with {status}"), code=Exit.UNAVAILABLE)


def _ask(address: Address, path: str, *, timeout_s: float, tls: bool) -> tuple[int, dict[str, object]]:
    host = EVERYWHERE.get(address.host, address.host)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: HTTPConnection = HTTPSConnection(host, address.port, timeout=timeout_s, context=context)
    else:
        connection = HTTPConnection(host, address.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()
    try:
        told = json.loads(body)
    except ValueError:
        told = {}
    return answer.status, told if isinstance(told, dict) else {}
