"""What differs between two configurations, and what each difference costs: for `bgpd plan`, reload and the speaker.

One table says what a change of each key costs; docs/configuration.md is held equal to it by a test. Never applies a
change.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bgpd.config.patterns import is_pattern
from bgpd.config.schema import Config
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig, SessionConfig
from bgpd.config.schema_values import Strict
from bgpd.config.schema_workloads import GuestConfig, WorkloadConfig
from bgpd.model.views.orders import ConfigChangeView


class Effect(enum.StrEnum):
    """The class of a difference, the cheapest first."""

    NO_OP = "no-op"
    """Applied at once; no session notices."""
    REFRESH = "refresh"
    """Policy is applied anew to the routes that are kept as received; changed ones are sent again, no session ends."""
    RESET = "reset"
    """The sessions of the neighbors it concerns end and start anew."""
    RESTART = "restart"
    """It takes effect at the daemon's next start."""


GUESTS = "workload.bgp"
"""The section of guests."""
_KEYED_BY = ("name", "prefix", "id")
"""What tells the entries of a list of tables apart."""
_ABSENT = object()
_LINK_LOCAL = "fe80::/10"
"""Where a neighbor is that has an interface and no address."""

Path = tuple[str, ...]
"""TOML keys from the top, without what tells the entries of a list apart: ("neighbor", "hold_time_s")."""

_SESSION: Mapping[str, Effect] = {
    "import": Effect.REFRESH,
    "export": Effect.REFRESH,
    "allow_own_as": Effect.REFRESH,
    "connect_retry_s": Effect.NO_OP,
    "max_prefixes": Effect.NO_OP,
    "max_prefixes_warn_percent": Effect.NO_OP,
    "max_prefixes_action": Effect.NO_OP,
    "max_prefixes_restart_after_s": Effect.NO_OP,
    "max_attribute_bytes": Effect.NO_OP,
    "max_neighbors": Effect.NO_OP,
    "max_neighbors_per_interface": Effect.NO_OP,
    "min_hold_time_s": Effect.NO_OP,
    "bfd": Effect.NO_OP,
    "tcp_ao": Effect.NO_OP,
    "expect_hostname": Effect.NO_OP,
}
"""Keys of a [[neighbor]] or [[listen]] that need no new session."""

_GUEST: Mapping[str, Effect] = {
    **{key: effect for key, effect in _SESSION.items() if key != "max_neighbors"},
    "max_guests": Effect.NO_OP,
    "prefixes": Effect.REFRESH,
    "communities": Effect.REFRESH,
    "med": Effect.REFRESH,
    "anycast": Effect.NO_OP,
}
"""Keys of a [[workload.bgp]] that need no new session."""

_FOLLOWED = ("static", "kernel", "addresses", "bgp", "services")
"""Parts of [workload] that follow a reload; all others stay as they were at the start."""

_EFFECTS: Mapping[Path, Effect] = {
    ("router",): Effect.RESET,
    ("router", "loopbacks"): Effect.NO_OP,
    ("router", "asn_range"): Effect.NO_OP,
    ("neighbor",): Effect.RESET,
    **{("neighbor", key): effect for key, effect in _SESSION.items()},
    ("listen",): Effect.RESET,
    **{("listen", key): effect for key, effect in _SESSION.items()},
    ("workload", "bgp"): Effect.RESET,
    **{("workload", "bgp", key): effect for key, effect in _GUEST.items()},
    ("policy",): Effect.REFRESH,
    ("fib",): Effect.RESTART,
    ("fib", "preferred_source"): Effect.NO_OP,
    ("api",): Effect.RESTART,
    ("bfd",): Effect.RESTART,
    ("state",): Effect.RESTART,
    ("journal",): Effect.RESTART,
    **{("workload", key): Effect.RESTART for key in WorkloadConfig.__struct_fields__ if key not in _FOLLOWED},
}
"""The longest beginning of a path counts; what has none here is a no-op."""


def effect_of(path: Path) -> Effect:
    """What a change of the key at `path`, or of something below it, costs."""
    for length in range(len(path), 0, -1):
        if path[:length] in _EFFECTS:
            return _EFFECTS[path[:length]]
    return Effect.NO_OP


def session_changes(section: str, old: Strict, new: Strict) -> Iterator[tuple[str, str, Effect]]:
    """Field, key and effect of each difference between two forms of a [[neighbor]], a [[listen]], a [[workload.bgp]] or
    [router]."""
    for field, key in zip(old.__struct_fields__, old.__struct_encode_fields__):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            begins = key == "tcp_ao" and not (before and after)  # no connection gets or loses TCP-AO while it is open
            yield field, key, Effect.RESET if begins else effect_of((*section.split("."), key))


def resets_session(section: str, old: Strict, new: Strict) -> bool:
    """Whether the sessions that an entry of a section of sessions, or [router], concerns have to begin anew."""
    if type(old) is not type(new):
        return True
    return any(effect is Effect.RESET for _, _, effect in session_changes(section, old, new))


def begins_anew(old: Config, new: Config, section: str, index: int) -> bool:
    """Whether the sessions of an entry of `new`, of one of `SESSION_SECTIONS`, are there with `old`, and would end."""
    before = _entries_of(old, section)
    after = dict(list(_entries_of(new, section).items())[index : index + 1])
    if resets_session("router", old.router, new.router):
        return bool(before.keys() & after.keys())
    return any(resets_session(section, before[name], one) for name, one in after.items() if name in before)


SESSION_SECTIONS = ("neighbor", "listen", GUESTS)
"""The sections that sessions are made from."""


def _entries_of(config: Config, section: str) -> Mapping[str, SessionConfig]:
    """The entries of a section of sessions by what tells them apart."""
    if section == "listen":
        return _by_prefix(config.listen)
    return _by_name(config.workload.bgp if section == GUESTS else config.neighbor)


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
        if isinstance(before, Strict) and isinstance(after, Strict):
            kept[field] = _kept(before, after, (*path, key))
        elif effect_of((*path, key)) is Effect.RESTART:
            kept[field] = before
    return msgspec.structs.replace(new, **kept) if kept else new


def config_diff(old: Config, new: Config) -> list[ConfigChangeView]:
    """The differences, in the order of the sections; empty if there are none.

    Neighbors of a pattern are told as such where both were made out (patterns.py).
    """
    changes: list[ConfigChangeView] = []
    for section in SESSION_SECTIONS:
        entries = _entries_of(old, section), _entries_of(new, section)
        changes += _session_changes(section, *entries, _by_prefix(old.listen))
    changes += _policy_changes(old, new)
    neighbors, old, new = _all_neighbors(old), _without_guests(old), _without_guests(new)
    for field in Config.__struct_fields__:
        if field not in ("neighbor", "listen", "policy"):
            changes += _value_changes((field,), getattr(old, field), getattr(new, field), neighbors)
    return changes


def _without_guests(config: Config) -> Config:
    return msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, bgp=()))


def _by_name(neighbors: tuple[NeighborConfig | GuestConfig, ...]) -> dict[str, SessionConfig]:
    return {neighbor.name: neighbor for neighbor in neighbors}


def _by_prefix(listens: tuple[ListenConfig, ...]) -> dict[str, ListenConfig]:
    return {f"{listen.prefix} vrf {listen.vrf}" if listen.vrf else listen.prefix: listen for listen in listens}


def _all_neighbors(config: Config) -> list[str]:
    return [name for section in SESSION_SECTIONS for name in _entries_of(config, section)]


def _session_changes(
    section: str,
    old: Mapping[str, SessionConfig],
    new: Mapping[str, SessionConfig],
    ranges_before: Mapping[str, ListenConfig],
) -> Iterator[ConfigChangeView]:
    for name in _union(old, new):
        path = f"{section}.{name}"
        before, after = old.get(name), new.get(name)
        if before is None:
            ranges = _taken_from(new[name], ranges_before)
            yield _change(path, _ABSENT, after, Effect.RESET if ranges else Effect.NO_OP, ranges or [name])
        elif after is None:
            yield _change(path, before, _ABSENT, Effect.NO_OP if _is_pattern(before) else Effect.RESET, [name])
        elif _is_pattern(before) or _is_pattern(after):
            for field, key, _ in session_changes(section, before, after):
                yield _change(f"{path}.{key}", getattr(before, field), getattr(after, field), Effect.NO_OP, [])
        else:
            for field, key, effect in session_changes(section, before, after):
                yield _change(f"{path}.{key}", getattr(before, field), getattr(after, field), effect, [name])


def _taken_from(added: SessionConfig, ranges: Mapping[str, ListenConfig]) -> list[str]:
    """The ranges that somebody may have connected from until now who is a [[neighbor]] of its own from here on: such a
    session ends, and comes anew."""
    if not isinstance(added, NeighborConfig) or added.vrf or is_pattern(added):
        return []
    place = ipaddress.ip_network(added.address or _LINK_LOCAL)
    before = {name: ipaddress.ip_network(one.prefix) for name, one in ranges.items()}
    return [name for name, one in before.items() if one.version == place.version and one.overlaps(place)]


def _is_pattern(session: SessionConfig) -> bool:
    """Whether it is a pattern that has made no neighbor."""
    return isinstance(session, NeighborConfig) and is_pattern(session)


def _policy_changes(old: Config, new: Config) -> Iterator[ConfigChangeView]:
    sessions = {name: one for section in SESSION_SECTIONS for name, one in _entries_of(new, section).items()}
    for name in _union(old.policy, new.policy):
        before, after = old.policy.get(name, _ABSENT), new.policy.get(name, _ABSENT)
        if before != after:
            users = [user for user, session in sessions.items() if name in (session.import_, session.export)]
            yield _change(f"policy.{name}", before, after, Effect.REFRESH if users else Effect.NO_OP, users)


def _value_changes(path: tuple[str, ...], old: Any, new: Any, neighbors: list[str]) -> Iterator[ConfigChangeView]:
    """Differences below a key path: structs by field, lists of tables by what identifies an entry."""
    if old == new:
        return
    if isinstance(old, msgspec.Struct) and isinstance(new, msgspec.Struct):
        for field, encoded in zip(old.__struct_fields__, old.__struct_encode_fields__):
            yield from _value_changes((*path, encoded), getattr(old, field), getattr(new, field), neighbors)
        return
    before, after = _entries(old), _entries(new)
    if before is not None and after is not None and (before or after):
        for key in _union(before, after):
            yield from _value_changes((*path, key), before.get(key, _ABSENT), after.get(key, _ABSENT), neighbors)
        return
    effect = effect_of(path)
    yield _change(".".join(path), old, new, effect, neighbors if effect is Effect.RESET else [])


def _entries(value: Any) -> dict[str, Any] | None:
    """A list of tables by what identifies each; None if it is something else."""
    if not isinstance(value, tuple) or not all(isinstance(item, msgspec.Struct) for item in value):
        return None
    found = {}
    for index, item in enumerate(value):
        names = (getattr(item, field) for field in _KEYED_BY if getattr(item, field, ""))
        name = str(next(names, index))
        vrf = getattr(item, "vrf", "")
        found[f"{name} vrf {vrf}" if vrf else name] = item
    return found if len(found) == len(value) else None


def _union(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [*old, *(name for name in new if name not in old)]


def _change(path: str, old: Any, new: Any, effect: Effect, neighbors: list[str]) -> ConfigChangeView:
    change = "added" if old is _ABSENT else "removed" if new is _ABSENT else "changed"
    values = (None if value is _ABSENT else msgspec.to_builtins(value) for value in (old, new))
    before, after = values
    return ConfigChangeView(path=path, change=change, effect=effect.value, neighbors=neighbors, old=before, new=after)
