"""The configuration that a process leaves to the next one, which goes on with it where the files have errors meanwhile:
a restart must not cost the sessions for a mistake that a reload is refused for.

It judges the configuration as `bgpd check` does, since the next process may be another version; reads no files.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bgpd.config.check import check_config
from bgpd.config.load import Loaded, is_of_password
from bgpd.config.schema import Config
from bgpd.model.identity import Identity
from bgpd.model.unreadable import UNREADABLE


class LeftConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What its files said when they were read last, and where that came from; `rules`: name, number, place."""

    config: Config
    files: tuple[str, ...]
    variables: dict[str, str]
    identity: Identity
    rules: list[tuple[str, int, str]] = []


def pack(loaded: Loaded) -> bytes:
    """What `unpack` of the next process takes."""
    left = LeftConfiguration(
        config=loaded.config,
        files=loaded.files,
        variables=loaded.variables,
        identity=loaded.identity,
        rules=[(*rule, place) for rule, place in loaded.rules.items()],
    )
    return msgspec.msgpack.encode(left)


def unpack(packed: bytes, errors: Sequence[str]) -> Loaded | None:
    """The configuration that was left, whose files have these `errors` now; None if there is none, or if this version
    does not take it."""
    try:
        left = msgspec.msgpack.decode(packed, type=LeftConfiguration)
    except UNREADABLE:  # none was left, or of a version with other keys
        return None
    if not all(map(is_of_password, check_config(left.config))):
        return None
    rules = {(name, number): place for name, number, place in left.rules}
    return Loaded(left.config, [], left.files, left.variables, left.identity, rules=rules, errors=tuple(errors))
