"""Options that several verbs share."""

from typing import Annotated, Any, Final

import typer

DEFAULT_ADDRESS: Final = "127.0.0.1:7420"


def _address(ctx: typer.Context, value: str) -> str:
    """Let `des --address A put` win over the environment, and `des put --address A` over both."""
    source: Any = ctx.get_parameter_source("address")
    root = ctx.find_root().params.get("address")
    if root and not (source is not None and source.name == "COMMANDLINE"):
        value = str(root)
    from des_client.channels import check_target  # noqa: PLC0415  `des ls` needs no gRPC
    from des_client.errors import InvalidArgument  # noqa: PLC0415

    try:
        check_target(value)
    except InvalidArgument:
        raise typer.BadParameter(f"found {value!r}, expected HOST:PORT, as {DEFAULT_ADDRESS}") from None
    return value


Address = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        envvar="DES_ADDRESS",
        help="Server to talk to.",
        callback=_address,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line, for scripts.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Give a call up after this long.")
]
DEFAULT_TIMEOUT_S: Final = 30.0
