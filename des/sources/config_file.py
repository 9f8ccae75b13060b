"""Reading `source_databases.yaml`: YAML, then `${ENV}`, then the model; every error says where it is."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from des.sources.config import SourcesConfig
from des.sources.errors import SourceConfigError

FILE_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 20
_VARIABLE: Final = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{([^}]*)\}?")
_SECRET: Final = re.compile(r"password|secret|token|access_key|driver_options")
_CHOICES: Final = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "prefix", "is_null", "not_null"}
)
"""Tags of the filters' union, which pydantic puts into the path and the file does not."""


def load_sources(path: Path, environment: Mapping[str, str]) -> SourcesConfig:
    """Read and check the file.

    `${NAME}` in any text stands for that variable of `environment`, `$$` for a dollar sign.

    Raises:
        SourceConfigError: with one line per mistake: file, path in it, what was found and expected.
    """
    return parse_sources(_read(path), str(path), environment)


def variables_in(path: Path) -> frozenset[str]:
    """Return the names of the variables that the file asks for.

    Raises:
        SourceConfigError: it cannot be read.
    """
    return frozenset(found[1] for found in _VARIABLE.finditer(_read(path)) if found[1])


def parse_sources(text: str, origin: str, environment: Mapping[str, str]) -> SourcesConfig:
    """Check the text of a file; `origin` stands in messages. Same errors as `load_sources`."""
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader that refuses doubled keys
    except yaml.YAMLError as error:
        raise SourceConfigError(f"{origin}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SourceConfigError(f"{origin}: nested deeper than {DEPTH_MAX} levels") from None
    if not isinstance(content, dict):
        raise SourceConfigError(
            f"{origin}: holds a {type(content).__name__}, expected keys marker, packer and sources"
        )
    mistakes: list[str] = []
    filled = _fill(content, (), environment, mistakes)
    if mistakes:
        raise SourceConfigError("\n".join(f"{origin}: {one}" for one in mistakes))
    try:
        return SourcesConfig.model_validate(filled)
    except ValidationError as error:
        mistakes = [_explain(one) for one in error.errors(include_url=False)]
        raise SourceConfigError("\n".join(f"{origin}: {one}" for one in mistakes)) from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise SourceConfigError(f"{path}: longer than {FILE_BYTES_MAX} bytes")
        return data.decode()
    except OSError as error:
        raise SourceConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SourceConfigError(f"{path}: byte {error.start} is not UTF-8") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, which would silently be the last one."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(
                problem=f"key is {key!r}, expected text", problem_mark=key_node.start_mark
            )
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _fill(value: Any, path: tuple[str, ...], environment: Mapping[str, str], mistakes: list[str]) -> Any:
    """Put in the variables; what they hold stays text and is not read as YAML."""
    if len(path) > DEPTH_MAX:
        mistakes.append(f"{_dotted(path)}: nested deeper than {DEPTH_MAX} levels")
        return None
    if isinstance(value, dict):
        return {key: _fill(inner, (*path, str(key)), environment, mistakes) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, (*path, str(at)), environment, mistakes) for at, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name = found[1]
        if name is None:
            mistakes.append(f"{_dotted(path)}: found {found[0]!r}, expected ${{NAME}}")
            return ""
        if name not in environment:
            mistakes.append(f"{_dotted(path)}: the environment has no variable {name}")
            return ""
        return environment[name]

    return _VARIABLE.sub(replace, value)


def _explain(error: Any) -> str:
    path = tuple(str(part) for part in error["loc"] if part not in _CHOICES)
    where = _dotted(path)
    found = "(hidden)" if _SECRET.search(where) else _short(error["input"])
    match error["type"]:
        case "missing":
            return f"{where}: missing"
        case "extra_forbidden":
            return f"{where}: unknown key"
        case "value_error":
            # The whole part was found; showing it would show what is secret in it.
            return f"{where}: {error['ctx']['error']}"
        case "union_tag_invalid":
            return f"{where}.op: found {error['ctx']['tag']!r}, expected {error['ctx']['expected_tags']}"
        case kind if kind.startswith("byte_size"):
            return f"{where}: found {found}, expected a size such as 1048576 or 64MiB"
        case _:
            expected = str(error["msg"])[:1].lower() + str(error["msg"])[1:]
            return f"{where}: found {found}, {expected.replace('input should be', 'expected', 1)}"


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the file"
