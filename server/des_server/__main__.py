"""The command `des-server`: one node, served until a signal.

Exit codes: 0 stopped as asked, 1 unexpected, 2 usage or configuration, 3 refused to start.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import pydantic
import structlog
import yaml
from prometheus_client import CollectorRegistry
from pydantic_settings import SettingsError

from des import __version__
from des.config import Settings, load_settings
from des.config.variables import stray_variables
from des.monitoring import configure_logging
from des.node import Node
from des_server.lifecycle import EXIT_UNEXPECTED, EXIT_USAGE, OpenNode, say, serve

_log = structlog.get_logger(__name__)


def run(
    settings: Settings,
    *,
    allow_exposed: bool = False,
    open_node: OpenNode | None = None,
    registry: CollectorRegistry | None = None,
    variables: Collection[str] = (),
) -> int:
    """Serve a node of `settings` in this process until a signal; return the exit code.

    `allow_exposed` is the flag --insecure-allow-plaintext-non-loopback. `registry` may have metrics of the
    caller's own, which are served with the node's. `variables` are those that the caller reads itself.
    """
    configure_logging(level=settings.log_level, style=settings.log_format)
    for stray in stray_variables(os.environ, used=variables):
        _log.warning("variable is no setting and has no effect", variable=stray.name, near=stray.near)
    try:
        if settings.workers > 1:
            from des_server.cluster.workers import Supervisor  # noqa: PLC0415  an HTTP client's import time

            return asyncio.run(Supervisor(settings, allow_exposed=allow_exposed).run())
        return asyncio.run(
            serve(settings, open_node or _open_node, allow_exposed=allow_exposed, registry=registry)
        )
    except KeyboardInterrupt:
        return EXIT_UNEXPECTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Read flags and settings, then serve."""
    flags = _parser().parse_args(arguments)
    try:
        settings = load_settings(
            flags.config,
            data_dir=flags.data_dir,
            listen=flags.listen,
            http_listen=flags.http_listen,
            workers=flags.workers,
            log_level=flags.log_level,
            log_format=flags.log_format,
        )
    except pydantic.ValidationError as error:
        for fault in error.errors():
            key = ".".join(map(str, fault["loc"]))
            say(f"setting {key}: {fault['msg']}{_found(key, fault['input'])}")
        return EXIT_USAGE
    except (OSError, yaml.YAMLError, SettingsError) as error:
        say(f"cannot read the settings: {error}")
        return EXIT_USAGE
    return run(settings, allow_exposed=flags.insecure_allow_plaintext_non_loopback)


def _found(key: str, value: object) -> str:
    """Return what was found, unless it may have a secret in it: a group, a URL, a value called so."""
    plain = isinstance(value, int | float) or (isinstance(value, str) and "://" not in value)
    secret = any(word in key.lower() for word in ("password", "secret", "token", "access_key", "url"))
    return f", found {value!r}" if plain and not secret else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="des-server", description="Serve a DES store over gRPC.")
    parser.add_argument("--version", action="version", version=f"des-server {__version__}")
    parser.add_argument("--config", type=Path, help="YAML file of settings; DES_* variables override it")
    parser.add_argument("--data-dir", type=Path, help="folder of the store")
    parser.add_argument("--listen", help="host:port of the gRPC service; port 0 lets the system choose")
    parser.add_argument("--http-listen", help="host:port of health and metrics; empty for none")
    parser.add_argument("--workers", type=int, help="processes behind the gRPC address; need PostgreSQL")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-format", choices=["console", "json"])
    parser.add_argument(
        "--insecure-allow-plaintext-non-loopback",
        action="store_true",
        help="listen beyond this machine without TLS and authentication",
    )
    return parser


async def _open_node(settings: Settings) -> Node:
    return await Node.open(settings)


if __name__ == "__main__":
    sys.exit(main())
