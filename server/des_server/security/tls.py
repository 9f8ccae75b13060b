"""TLS of both ports. Certificates are read again when their files change: no restart, no cut connection."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import grpc
import structlog

from des.config import TlsSettings
from des.errors import DesError

_log = structlog.get_logger(__name__)
FilesState = tuple[tuple[int, int, int], ...]

ALPN: Final = ["http/1.1"]


class TlsFilesError(DesError):
    """Certificate and key cannot be used."""


@dataclass(frozen=True, slots=True)
class _Pems:
    chain: bytes
    key: bytes
    client_ca: bytes | None


class TlsFiles:
    """The PEM files of the settings, and what was last good of them."""

    def __init__(self, settings: TlsSettings) -> None:
        """Read the files.

        Raises:
            TlsFilesError: they cannot be read, or key and certificate do not belong together.
        """
        assert settings.cert is not None
        assert settings.key is not None
        self._cert = settings.cert
        self._key = settings.key
        self._client_ca = settings.client_ca
        self._paths = [self._cert, self._key, *([self._client_ca] if self._client_ca else [])]
        self._grpc = self._pems()
        self._context = self._make_context()
        self._grpc_seen = self._http_seen = state_of(self._paths)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask for the files' state before each handshake.

        With `client_ca`, clients without a certificate of it are turned away.
        """
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._grpc),
            cast("Callable[[], grpc.ServerCertificateConfiguration]", self._grpc_news),  # None: no change
            require_client_authentication=self._client_ca is not None,
        )

    def http_context(self) -> ssl.SSLContext:
        """Return the context of the HTTP port, which gives way to a new one when the files change."""
        return self._context

    def _grpc_news(self) -> "grpc.ServerCertificateConfiguration | None":
        """Return what has changed since gRPC last asked; its own threads ask."""
        try:
            seen = state_of(self._paths)
            if seen == self._grpc_seen:
                return None
            self._make_context()  # a pair that does not fit is refused here
            self._grpc = self._pems()
        except TlsFilesError as error:
            _log.error("the TLS files cannot be used, the old ones stay", error=str(error))
            return None
        self._grpc_seen = seen
        return _configuration(self._grpc)

    def _http_news(self, sock: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        try:
            seen = state_of(self._paths)
            if seen != self._http_seen:
                self._context = self._make_context()
                self._http_seen = seen
        except TlsFilesError as error:
            _log.error("the TLS files cannot be used, the old ones stay", error=str(error))
        sock.context = self._context

    def _pems(self) -> _Pems:
        return _Pems(
            read_pem(self._cert), read_pem(self._key), read_pem(self._client_ca) if self._client_ca else None
        )

    def _make_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(ALPN)
        load_pair(context, self._cert, self._key)
        context.sni_callback = self._http_news
        return context


def state_of(paths: Sequence[Path]) -> FilesState:
    """Return what tells one state of files from another, without reading them.

    Raises:
        TlsFilesError: one cannot be looked at.
    """
    try:
        found = [path.stat() for path in paths]
    except OSError as error:
        raise TlsFilesError(f"cannot look at {error.filename}: {error.strerror}") from error
    return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)


def load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Have a context show a certificate.

    Raises:
        TlsFilesError: the files cannot be read, or do not belong together.
    """
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise TlsFilesError(
            f"{cert} and {key} are no certificate and its key: {error.strerror or error}"
        ) from error


def read_pem(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        TlsFilesError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFilesError(f"cannot read {path}: {error.strerror}") from error


def _configuration(pems: _Pems) -> "grpc.ServerCertificateConfiguration":
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.chain)], pems.client_ca)
