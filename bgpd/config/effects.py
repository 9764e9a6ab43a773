"""What a change of each configuration key costs: one table, for `bgpd plan`, reload, the speaker and the documents.

Decides nothing else. docs/configuration.md is held equal to it by a test.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bgpd.config.schema import Config, SessionConfig, Strict


class Effect(enum.StrEnum):
    """The class of a difference, the cheapest first."""

    NO_OP = "no-op"
    """Applied at once; no session notices."""
    REFRESH = "refresh"
    """Policy is applied anew to the routes that are kept as received; changed ones are sent again, no session ends."""
    RESET = "reset"
    """The sessions of the neighbors it concerns end and start anew."""
    RESTART = "restart"
    """It counts from the daemon's next start."""


Path = tuple[str, ...]
"""TOML keys from the top, without what tells the entries of a list apart: ("neighbor", "hold_time_s")."""

_SESSION: Mapping[str, Effect] = {
    "import": Effect.REFRESH,
    "export": Effect.REFRESH,
    "allow_own_as": Effect.REFRESH,
    "connect_retry_s": Effect.NO_OP,
    "max_prefixes": Effect.NO_OP,
    "max_attribute_bytes": Effect.NO_OP,
    "max_neighbors": Effect.NO_OP,
    "max_neighbors_per_interface": Effect.NO_OP,
    "min_hold_time_s": Effect.NO_OP,
    "bfd": Effect.NO_OP,
}
"""Keys of a [[neighbor]] or [[listen]] that need no new session."""

_EFFECTS: Mapping[Path, Effect] = {
    ("router",): Effect.RESET,
    ("neighbor",): Effect.RESET,
    **{("neighbor", key): effect for key, effect in _SESSION.items()},
    ("listen",): Effect.RESET,
    **{("listen", key): effect for key, effect in _SESSION.items()},
    ("policy",): Effect.REFRESH,
    ("fib",): Effect.RESTART,
    ("api",): Effect.RESTART,
    ("state",): Effect.RESTART,
    ("workload", "mqtt"): Effect.RESTART,
    ("workload", "api"): Effect.RESTART,
    ("workload", "health"): Effect.RESTART,
}
"""The longest beginning of a path counts; what has none here is a no-op."""


def effect_of(path: Path) -> Effect:
    """What a change of the key at `path`, or of something below it, costs."""
    for length in range(len(path), 0, -1):
        if path[:length] in _EFFECTS:
            return _EFFECTS[path[:length]]
    return Effect.NO_OP


def session_changes(section: str, old: SessionConfig, new: SessionConfig) -> Iterator[tuple[str, str, Effect]]:
    """Field, key and effect of each difference between two forms of one [[neighbor]] or [[listen]] (`section`)."""
    for field, key in zip(old.__struct_fields__, old.__struct_encode_fields__):
        if getattr(old, field) != getattr(new, field):
            yield field, key, effect_of((section, key))


def keep_until_restart(old: Config, new: Config) -> Config:
    """The new configuration, with what counts only from a start as it is in the old one."""
    kept: Config = _kept(old, new, ())
    return kept


def _kept(old: Strict, new: Strict, path: Path) -> Any:
    kept: dict[str, Any] = {}
    for field, key in zip(new.__struct_fields__, new.__struct_encode_fields__):
        before, after = getattr(old, field), getattr(new, field)
        if before == after:
            continue
        if effect_of((*path, key)) is Effect.RESTART:
            kept[field] = before
        elif isinstance(before, Strict) and isinstance(after, Strict):
            kept[field] = _kept(before, after, (*path, key))
    return msgspec.structs.replace(new, **kept) if kept else new
