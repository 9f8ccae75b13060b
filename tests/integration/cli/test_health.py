"""The probe against real servers: plain, with TLS, unwell, and away."""

import json
import os
import subprocess
import sys

import pytest

from des.cli.exits import Exit
from des.testing.authority import HERE, Authority


def ask(tmp_path, *arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DES_")}
    return subprocess.run(
        [sys.executable, "-m", "des.cli", "health", *arguments],
        capture_output=True,
        cwd=tmp_path,
        env=inherited | environment,
        timeout=100,
        check=False,
    )


def test_a_server_that_is_ready_says_so(server, tmp_path):
    asked = ask(tmp_path, "--timeout", "30", DES_HTTP_LISTEN=server.http)
    assert (asked.returncode, asked.stdout) == (Exit.OK, b"ready\n")
    told = ask(tmp_path, "--json", "--timeout", "30", "--http", server.http)
    assert json.loads(told.stdout)["writable"] is True
    assert ask(tmp_path, "--live", "--timeout", "30", "--http", server.http).stdout == b"live\n"
    port = server.http.rpartition(":")[2]
    assert ask(tmp_path, "--timeout", "30", "--http", f"0.0.0.0:{port}").returncode == Exit.OK
    server.kill()
    gone = ask(tmp_path, "--http", server.http)
    assert gone.returncode == Exit.UNAVAILABLE
    assert b"does not answer" in gone.stderr


def test_a_server_with_tls_and_callers_is_asked_without_credentials(make_server, tmp_path):
    cert, key = Authority(tmp_path, "authority").issue(tmp_path, "server", *HERE)
    settings = {
        "DES_AUTH__API_KEYS": "true",
        "DES_TLS__CERT": str(cert),
        "DES_TLS__KEY": str(key),
    }
    server = make_server(settings).start()
    asked = ask(tmp_path, "--timeout", "30", DES_HTTP_LISTEN=server.http, **settings)
    assert (asked.returncode, asked.stdout) == (Exit.OK, b"ready\n"), asked.stderr
    plain = ask(tmp_path, "--plain", "--timeout", "30", DES_HTTP_LISTEN=server.http, **settings)
    assert plain.returncode == Exit.UNAVAILABLE


@pytest.mark.parametrize("where", ["", "nonsense"])
def test_where_there_is_nobody_to_ask_the_settings_are_wrong(tmp_path, where):
    assert ask(tmp_path, DES_HTTP_LISTEN=where).returncode == Exit.USAGE
