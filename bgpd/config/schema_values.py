"""What the values of the configuration are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

AsNumber = Annotated[int, Meta(ge=1, le=4_294_967_294)]
Seconds = Annotated[int, Meta(ge=0, le=16_777_215)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Interface = Annotated[str, Meta(max_length=15)]
InterfacePattern = Annotated[str, Meta(max_length=64)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all configuration values: immutable, and no unknown key is let through."""
