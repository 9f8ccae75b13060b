"""Google Cloud Storage for tests: moto's S3 server that speaks Google's XML dialect.

obstore uses Google's XML API, which is S3's but for the names of headers and for conditions. The emulators
that can be installed know the JSON API only (fake-gcs-server refuses the XML API's PUT), so that here a thin
layer translates in front of a server that does store, copy and put parts together.
"""

import importlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
from pydantic import SecretStr

from des.config import GcsSettings

BUCKET: Final = "des-test"
_GOOGLE: Final = "HTTP_X_GOOG_META_"
_AMAZON: Final = "HTTP_X_AMZ_META_"
_SIGNED: Final = (
    "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)
_Environ = dict[str, Any]
_Start = Callable[..., Any]


def settings_for(endpoint_url: str) -> GcsSettings:
    """Return settings that reach a server of this module."""
    return GcsSettings(
        endpoint_url=endpoint_url,
        token=SecretStr("any"),
        part_bytes=5 << 20,  # type: ignore[arg-type]  # as pydantic takes it
    )


class GoogleDialect:
    """A WSGI application before moto's: requests and answers of the XML API, translated."""

    def __init__(self, application: Any, *, honours_conditions: bool = True) -> None:
        """Take the application.

        Args:
            application: moto's.
            honours_conditions: False for a store that takes `x-goog-if-generation-match` and ignores it.
        """
        self._application = application
        self._honours = honours_conditions
        self._writing = threading.Lock()
        self.answers_to_lose = 0
        """So many of the next writes take effect and are answered with 503."""

    def __call__(self, environ: _Environ, start_response: _Start) -> Iterable[bytes]:
        """Serve one request."""
        environ = self._translated(environ)
        if environ["REQUEST_METHOD"] not in {"PUT", "POST", "DELETE"}:
            return self._served(environ, start_response)
        free = environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None) == "0" and self._honours
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        # One at a time, so that a look and the write after it are one step.
        with self._writing:
            if free and self._exists(environ):
                return _answered(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", start_response)
            environ["wsgi.input"] = _Body(body)
            if self.answers_to_lose:
                self.answers_to_lose -= 1
                list(self._served(environ, lambda *_: None))
                return _answered(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", start_response)
            return list(self._served(environ, start_response))

    def _translated(self, environ: _Environ) -> _Environ:
        changed = {name.replace(_GOOGLE, _AMAZON): value for name, value in environ.items()}
        if source := changed.pop("HTTP_X_GOOG_COPY_SOURCE", None):
            changed["HTTP_X_AMZ_COPY_SOURCE"] = f"/{quote(unquote(source).lstrip('/'))}"
        # More is escaped than moto expects, slashes in keys too.
        for name in ("RAW_URI", "REQUEST_URI"):
            path, question, query = changed.get(name, "").partition("?")
            changed[name] = quote(unquote(path)) + question + query
        # moto looks for a signature, not at it.
        changed["HTTP_AUTHORIZATION"] = _SIGNED
        return changed

    def _exists(self, environ: _Environ) -> bool:
        found: list[str] = []

        def start(status: str, _: Any, __: Any = None) -> Any:
            found.append(status)

        look = {**environ, "REQUEST_METHOD": "HEAD", "CONTENT_LENGTH": "0", "wsgi.input": _Body(b"")}
        for name in ("HTTP_X_AMZ_COPY_SOURCE", "QUERY_STRING"):
            look.pop(name, None)
        list(self._application({**look, "QUERY_STRING": ""}, start))
        return found[0].startswith("200")

    def _served(self, environ: _Environ, start_response: _Start) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], failure: Any = None) -> Any:
            renamed = [
                (name.lower().replace("x-amz-meta-", "x-goog-meta-"), value) for name, value in headers
            ]
            return start_response(status, renamed, failure)

        answer: Iterable[bytes] = self._application(environ, start)
        return answer


class _Body:
    """What a server gives an application to read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        stop = len(self._data) if size is None or size < 0 else self._place + size
        data = self._data[self._place : stop]
        self._place += len(data)
        return data


def _answered(status: HTTPStatus, code: str, start_response: _Start) -> Iterable[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
    start_response(f"{status} {status.phrase}", [("Content-Length", str(len(body)))])
    return [body]


@contextmanager
def temporary_gcs(*, honours_conditions: bool = True) -> Iterator[tuple[GcsSettings, GoogleDialect]]:
    """Run the server in this process, on a real socket, with `BUCKET` in it."""
    for module, wheel in (("moto", "moto[server]"), ("obstore", "obstore"), ("boto3", "boto3")):
        pytest.importorskip(module, reason=f"no Google Cloud Storage: pip install '{wheel}'")
    moto = importlib.import_module("moto.server")
    serving = importlib.import_module("werkzeug.serving")
    application = moto.DomainDispatcherApplication(moto.create_backend_app)
    dialect = GoogleDialect(application, honours_conditions=honours_conditions)
    server = serving.make_server(
        "127.0.0.1",
        0,
        dialect,
        threaded=True,
        request_handler=_quiet(serving.WSGIRequestHandler),
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        _make_bucket(endpoint)
        yield settings_for(endpoint), dialect
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _quiet(handler: Any) -> Any:
    class Quiet(handler):  # type: ignore[misc]  # werkzeug's, imported when it is needed
        """Says nothing, and keeps connections."""

        protocol_version = "HTTP/1.1"

        def log(self, *_: object, **__: object) -> None:
            """Say nothing."""

    return Quiet


def _make_bucket(endpoint: str) -> None:
    client = importlib.import_module("boto3").client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",  # noqa: S106  of a server on loopback that lives for one test run
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
