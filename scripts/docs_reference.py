"""Reference pages made from what they are about: settings, commands, protos.

python scripts/docs_reference.py settings|commands|protos
"""

import ast
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from google.protobuf import descriptor_pb2
from pydantic import BaseModel

from des.cli import main
from des.cli.settings import readable
from des.config import settings as settings_module

ROOT = Path(__file__).parent.parent
MADE = "<!-- Made by scripts/docs_reference.py. -->\n\n"
FIELD = descriptor_pb2.FieldDescriptorProto


# --- settings -----------------------------------------------------------------------------------


def settings() -> str:
    """Return the page of all settings: key, default, and what the model says of each."""
    said = dict(_said_of_settings())
    lines = [
        MADE + "# Settings\n",
        "Defaults, then the YAML file named by `--config` or `DES_CONFIG`, then environment variables, then",
        "flags. A group's member `seal.age_s` is `age_s` below `seal` in YAML, `DES_SEAL__AGE_S` in the",
        "environment and",
        "`--set seal.age_s=600` on the command line. `des config show` prints what is in force.\n",
    ]
    groups: list[tuple[str, type[BaseModel]]] = []
    lines += ["## The node\n", *_table("Settings", settings_module.Settings, "", said, groups)]
    for name, model in groups:
        lines += [f"\n## {name}\n", said.get((model.__name__, ""), ""), ""]
        lines += _table(model.__name__, model, f"{name}.", said, [])
    return "\n".join(lines) + "\n"


def _table(
    owner: str,
    model: type[BaseModel],
    above: str,
    said: dict[tuple[str, str], str],
    groups: list[tuple[str, type[BaseModel]]],
) -> Iterator[str]:
    yield "| key | default | |"
    yield "| --- | --- | --- |"
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            groups.append((name, kind))
            continue
        default = readable(field.get_default(call_default_factory=True)).replace("|", "\\|")
        yield f"| `{above}{name}` | `{default}` | {said.get((owner, name), '')} |"


def _said_of_settings() -> Iterator[tuple[tuple[str, str], str]]:
    """Yield (class, field or nothing) and the docstring below it; pydantic does not keep them."""
    tree = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))
    for each in tree.body:
        if not isinstance(each, ast.ClassDef):
            continue
        yield (each.name, ""), ast.get_docstring(each) or ""
        for field, after in zip(each.body, each.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                target, text = field.target, after.value
                if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                    yield (each.name, target.id), " ".join(str(text.value).split())


# --- commands -----------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of all commands, each as its own `--help` says it."""
    lines = [
        MADE + "# Commands\n",
        "What `des VERB --help` says. What the verbs have in common: [cli.md](../cli.md).\n",
    ]
    root = typer.main.get_command(main.app)
    for verb in main.VERBS:
        command = root.get_command(click.Context(root, info_name="des"), verb)  # type: ignore[attr-defined]
        lines += _command(command, f"des {verb}", level=2)
    for name in ("marker", "packer"):
        command = typer.main.get_command(importlib.import_module(f"des.cli.{name}").app)
        lines += _command(command, f"des-{name}", level=2)
    return "\n".join(lines) + "\n"


def _command(command: Any, name: str, *, level: int) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    yield f"{'#' * level} {name}\n"
    context = command.make_context(
        name, [], resilient_parsing=True, max_content_width=100, terminal_width=100
    )
    yield f"```text\n{command.get_help(context).strip()}\n```\n"
    for each in inner.values():
        yield from _command(each, f"{name} {each.name}", level=level + 1)


# --- protos -------------------------------------------------------------------------------------


def protos() -> str:
    """Return the page of the gRPC API: services, messages and enums with their comments."""
    lines = [
        MADE + "# gRPC\n",
        "Package `des.v1`; the protos are the contract, and this page is made from their comments. How it",
        "feels from the shell: [grpcurl.md](../grpcurl.md).\n",
    ]
    services, messages, enums = [], [], []
    for file in _described().file:
        if file.package != "des.v1":
            continue
        said = {tuple(one.path): one for one in file.source_code_info.location}
        for at, service in enumerate(file.service):
            services += _service(service, (6, at), said)
        for at, message in enumerate(file.message_type):
            messages += _message(message, (4, at), said, "")
        for at, enum in enumerate(file.enum_type):
            enums += _enum(enum, (5, at), said, "")
    return (
        "\n".join([*lines, "## Services\n", *services, "## Messages\n", *messages, "## Enums\n", *enums])
        + "\n"
    )


def _described() -> descriptor_pb2.FileDescriptorSet:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image"
        subprocess.run([ROOT / "scripts" / "proto_image.sh", sys.executable, image], check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())


def _comment(said: dict[tuple[int, ...], Any], path: tuple[int, ...]) -> str:
    place = said.get(path)
    if place is None:
        return ""
    text = place.leading_comments or place.trailing_comments
    return re.sub(r"([<>|])", r"\\\1", " ".join(text.split()))


def _link(type_name: str) -> str:
    short = type_name.removeprefix(".des.v1.")
    return f"[{short}](#{short.lower().replace('.', '')})" if short != type_name else f"`{type_name[1:]}`"


def _service(service: Any, path: tuple[int, ...], said: dict[tuple[int, ...], Any]) -> Iterator[str]:
    yield f"### {service.name}\n"
    yield _comment(said, path) + "\n"
    yield "| method | request | response | |"
    yield "| --- | --- | --- | --- |"
    for at, method in enumerate(service.method):
        asks = ("stream " if method.client_streaming else "") + _link(method.input_type)
        gives = ("stream " if method.server_streaming else "") + _link(method.output_type)
        yield f"| `{method.name}` | {asks} | {gives} | {_comment(said, (*path, 2, at))} |"
    yield ""


def _message(
    message: Any, path: tuple[int, ...], said: dict[tuple[int, ...], Any], above: str
) -> Iterator[str]:
    if message.options.map_entry:
        return
    name = above + message.name
    yield f"### {name.replace('.', '')}\n" if not above else f"### {name}\n"
    yield _comment(said, path) + "\n"
    maps = {each.name: each for each in message.nested_type if each.options.map_entry}
    if message.field:
        yield "| field | type | |"
        yield "| --- | --- | --- |"
    for at, field in enumerate(message.field):
        kind = _kind(field, maps)
        if field.HasField("oneof_index") and not field.proto3_optional:
            kind += f", one of `{message.oneof_decl[field.oneof_index].name}`"
        yield f"| `{field.name}` = {field.number} | {kind} | {_comment(said, (*path, 2, at))} |"
    yield ""
    for at, each in enumerate(message.nested_type):
        yield from _message(each, (*path, 3, at), said, f"{name}.")
    for at, each in enumerate(message.enum_type):
        yield from _enum(each, (*path, 4, at), said, f"{name}.")


def _kind(field: Any, maps: dict[str, Any]) -> str:
    if (
        field.type == FIELD.TYPE_MESSAGE
        and (entry := maps.get(field.type_name.rpartition(".")[2])) is not None
    ):
        return f"map of {_kind(entry.field[0], {})} to {_kind(entry.field[1], {})}"
    name = (
        _link(field.type_name)
        if field.type in {FIELD.TYPE_MESSAGE, FIELD.TYPE_ENUM}
        else f"`{FIELD.Type.Name(field.type).removeprefix('TYPE_').lower()}`"
    )
    if field.label == FIELD.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _enum(enum: Any, path: tuple[int, ...], said: dict[tuple[int, ...], Any], above: str) -> Iterator[str]:
    yield f"### {above}{enum.name}\n"
    yield _comment(said, path) + "\n"
    yield "| value | | |"
    yield "| --- | --- | --- |"
    for at, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {_comment(said, (*path, 2, at))} |"
    yield ""


PAGES = {"settings": settings, "commands": commands, "protos": protos}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
