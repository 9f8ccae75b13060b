"""What the groups of settings have in common."""

from typing import Annotated, Final

from pydantic import BaseModel, ByteSize, ConfigDict, Field

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

Bytes = Annotated[ByteSize, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Group(BaseModel):
    """Settings that belong together: frozen, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
