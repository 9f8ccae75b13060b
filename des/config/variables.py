"""Environment variables that begin like settings and are none.

They are told, not refused (docs/adr/0029): an environment is not the settings' alone.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from des.config.settings import Settings

PREFIX: Final = "DES_"
NEAR: Final = 0.7
"""How alike two names are, of 1, for one to be proposed for the other."""

COMMAND_LINE: Final = frozenset(
    {
        *("DES_CONFIG", "DES_SOURCES", "DES_ADDRESS", "DES_HTTP_ADDRESS"),
        *("DES_TOKEN", "DES_CA", "DES_CLIENT_CERT", "DES_CLIENT_KEY", "DES_SERVER_NAME"),
    }
)
"""What the commands read beside the settings."""
ASSIGNMENT: Final = frozenset({"DES_DB_URL", "DES_ARCHIVE_BUCKET"})
"""What the assignment service reads where it runs alone (docs/http.md)."""
COMPOSE: Final = frozenset({"DES_DB_PASSWORD", "DES_S3_SECRET", "DES_GRAFANA_PASSWORD"})
"""What docker/compose.yaml is told by."""
TESTS: Final = frozenset({"DES_VERSITYGW", "DES_AZURITE"})
"""Where the tests' servers are."""
TESTS_PREFIXES: Final = ("DES_TEST_", "DES_TORTURE_")

_SERVICE_HOST: Final = "_SERVICE_HOST"
_SERVICE_PORT: Final = "_SERVICE_PORT"
_LINK: Final = re.compile(
    r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)


def known_keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Yield the dotted key of every setting there is."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{above}{name}.")
        else:
            yield above + name


def variable_of(key: str) -> str:
    """Return the variable of a dotted key.

    >>> variable_of("seal.age_s")
    'DES_SEAL__AGE_S'
    """
    return PREFIX + key.replace(".", "__").upper()


@dataclass(frozen=True, slots=True)
class StrayVariable:
    """A variable that has no effect. What it holds is not here: it may be a secret."""

    name: str
    near: str
    """The variable that may have been meant; empty where none is like it."""

    def __str__(self) -> str:
        hint = f"; did you mean {self.near}?" if self.near else "; `des config show` lists the settings"
        return f"variable {self.name} is no setting and has no effect{hint}"


def stray_variables(
    environment: Mapping[str, str], *, used: Collection[str] = frozenset()
) -> list[StrayVariable]:
    """Return the `DES_` variables that name no setting and nothing else that is read, by name.

    A wrong member of a group (`DES_SEAL__AGE`) is not among them: loading the settings refuses it.

    Args:
        environment: every variable; case does not matter, as for settings.
        used: names of others that this process reads, such as those a file of sources asks for.
    """
    names = {name.upper(): name for name in environment}
    links = set(service_links({upper: environment[name] for upper, name in names.items()}))
    keys = list(known_keys(Settings))
    known = [variable_of(key) for key in keys]
    groups = {variable_of(key.partition(".")[0]) for key in keys if "." in key}
    meant = {*known, *groups, *links, *(name.upper() for name in used)}
    meant |= COMMAND_LINE | ASSIGNMENT | COMPOSE | TESTS
    below = (*(f"{group}__" for group in groups), *TESTS_PREFIXES)
    proposed = {name.removeprefix(PREFIX): name for name in [*known, *sorted(COMMAND_LINE)]}
    strays = []
    for upper, name in sorted(names.items()):
        if not upper.startswith(PREFIX) or upper in meant or upper.startswith(below):
            continue
        near = difflib.get_close_matches(upper.removeprefix(PREFIX), proposed, n=1, cutoff=NEAR)
        strays.append(StrayVariable(name, proposed[near[0]] if near else ""))
    return strays


def service_links(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that Kubernetes makes in each pod for a Service: for one called `des`, `DES_PORT`.

    A Service X is known by `X_SERVICE_HOST` and `X_SERVICE_PORT` together, and `X_PORT` holds a URL: a
    variable of such a name that somebody set by hand is not taken for one of them.

    >>> list(service_links({"X_SERVICE_HOST": "10.0.0.1", "X_SERVICE_PORT": "7420", "X_PORT": "7420"}))
    ['X_SERVICE_HOST', 'X_SERVICE_PORT']
    """
    for host in environment:
        service = host.removesuffix(_SERVICE_HOST)
        if service == host or service + _SERVICE_PORT not in environment:
            continue
        for name, value in environment.items():
            if name.startswith(service) and _LINK.fullmatch(name, len(service)):
                if name == f"{service}_PORT" and "://" not in value:
                    continue
                yield name
