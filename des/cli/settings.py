"""The settings as the command line sees them: where each value came from, and what is wrong with it."""

import contextlib
import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
import yaml
from pydantic import BaseModel, ByteSize, SecretStr, ValidationError

from des.cli.exits import Exit, Failure
from des.config import Settings, load_settings
from des.config.variables import StrayVariable, known_keys, stray_variables, variable_of

HIDDEN: Final = "***"
_PASSWORD: Final = re.compile(r"(?<=://)([^:/@]*):(.*)@")
_SECRET_QUERY: Final = re.compile(
    r"([?&][^=&]*(?:password|passwd|pwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE
)
_SECRET_KEY: Final = re.compile(r"password|secret|token|access_key", re.IGNORECASE)
_UNITS: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", envvar="DES_CONFIG", help="YAML file of settings.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder for log, catalog, objects.")
]
Listen = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Address of the gRPC service.")
]
HttpListen = Annotated[
    str | None,
    typer.Option("--http-listen", metavar="HOST:PORT", help="Address of health and metrics; '' for none."),
]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="console or json.")]
AllowExposed = Annotated[
    bool,
    typer.Option(
        "--insecure-allow-plaintext-non-loopback",
        help="Listen beyond this machine without TLS and authentication.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as seal.age_s=60; may be repeated."),
]


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says about settings."""

    values: Mapping[str, Any]
    """As `load_settings` takes them."""
    options: Mapping[str, str]
    """Dotted key -> the option that gave it."""


def flags(sets: Sequence[str] | None, **named: Path | str | int | None) -> Flags:
    """Collect the settings given as options: `--set`, and those that have an option of their own."""
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for one in sets or ():
        key, equals, wanted = one.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"found {one!r}, expected KEY=VALUE", param_hint="--set")
        *groups, last = key.split(".")
        inner = values
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"{key!r} is below a setting that has a value", param_hint="--set")
        inner[last] = wanted
        given[key] = "--set"
    for key, value in named.items():
        if value is not None:
            values[key] = value
            given[key] = "--" + key.replace("_", "-")
    return Flags(values, given)


def load(config: Path | None, given: Flags) -> Settings:
    """Load the settings.

    Raises:
        Failure: with one line per mistake: the key, where it came from, what was found, what was expected.
    """
    _read(config)
    try:
        return load_settings(config, **given.values)
    except ValidationError as error:
        mistakes = [_explain(one, config, given) for one in error.errors(include_url=False)]
    except ValueError as error:
        mistakes = [f"{error}; a group in one variable is JSON, one member of it is DES_<GROUP>__<NAME>"]
    raise Failure("wrong settings\n" + "\n".join(f"  {one}" for one in mistakes), code=Exit.USAGE) from None


def _read(config: Path | None) -> Mapping[str, Any]:
    """Read the file as a mapping."""
    if config is None:
        return MappingProxyType({})
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"configuration file {config}: {error.strerror}", code=Exit.USAGE) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise Failure(f"configuration file {config} is not YAML: {where}", code=Exit.USAGE) from None
    if content is None:
        return MappingProxyType({})
    if not isinstance(content, dict):
        raise Failure(
            f"configuration file {config} holds a {type(content).__name__}, expected `key: value` lines",
            code=Exit.USAGE,
        )
    return content


def _explain(error: Any, config: Path | None, given: Flags) -> str:
    path = tuple(str(part) for part in error["loc"])
    key = ".".join(path)
    source = origin(key, config, given)
    if error["type"] == "extra_forbidden":
        known = list(known_keys(Settings))
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; `des config show` lists the known ones"
        return f"{key}: unknown setting, from {source}{hint}"
    if error["type"].startswith("byte_size"):
        return (
            f"{key}: found {hide(error['input'])!r} from {source}, expected a size such as 1048576 or 64MiB"
        )
    expected = error["msg"][:1].lower() + error["msg"][1:]
    expected = expected.replace("input should be", "expected", 1)
    if isinstance(error["input"], Mapping) and not _SECRET_KEY.search(
        key
    ):  # a group, in which secrets may be
        return f"{key}: {expected}" if key else expected
    found = HIDDEN if _SECRET_KEY.search(key) else hide(error["input"])
    return f"{key}: found {found!r} from {source}, {expected}"


def origin(key: str, config: Path | None, given: Flags) -> str:
    """Say where the value of a dotted key comes from; the strongest source that has it."""
    if key in given.options:
        return given.options[key]
    names = {name.upper(): name for name in os.environ}
    parts = key.split(".")
    for depth in range(len(parts), 0, -1):
        variable = variable_of(".".join(parts[:depth]))
        if variable in names:
            return f"variable {names[variable]}"
    inner: Any = _read(config)
    for part in parts:
        if not isinstance(inner, Mapping) or part not in inner:
            return "default"
        inner = inner[part]
    return f"file {config}"


def strays() -> list[StrayVariable]:
    """Return the variables that look like settings and have no effect, not on the file of sources either."""
    used: frozenset[str] = frozenset()
    if path := os.environ.get("DES_SOURCES"):
        from des.sources import SourceConfigError, variables_in  # noqa: PLC0415  SQLAlchemy's import time

        with contextlib.suppress(SourceConfigError):  # those who read it say what is wrong with it
            used = variables_in(Path(path))
    return stray_variables(os.environ, used=used)


def walk(settings: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting as (dotted key, value)."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from walk(value, f"{above}{name}.")
        else:
            yield above + name, value


def hide(value: Any) -> Any:
    """Blot out passwords in a URL; rather too much than too little.

    >>> hide("postgresql+asyncpg://des:p@ss/w@db:5432/des?sslpassword=x&a=b")
    'postgresql+asyncpg://des:***@db:5432/des?sslpassword=***&a=b'
    """
    if not isinstance(value, str):
        return value
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1:{HIDDEN}@", value))


def plain(value: Any) -> Any:
    """Return a setting as a plain JSON value, without secrets."""
    if isinstance(value, ByteSize):
        return int(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, SecretStr):
        return HIDDEN if value else ""
    if isinstance(value, BaseModel):
        return {key: plain(each) for key, each in walk(value)}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return hide(value)


def readable(value: Any) -> str:
    """Return a setting as YAML for people; feeding it back gives the same value.

    >>> readable(ByteSize(1 << 28)), readable(ByteSize(1000)), readable(""), readable(None)
    ('256MiB', '1000', "''", 'null')
    """
    if isinstance(value, ByteSize):
        for unit, size in _UNITS:
            if value and value % size == 0:
                return f"{value // size}{unit}"
    line: str = yaml.safe_dump(plain(value), default_flow_style=True, width=1 << 20, allow_unicode=True)
    return line.removesuffix("\n").removesuffix("\n...")
