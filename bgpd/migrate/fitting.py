"""Makes a draft one that `bgpd check` accepts: what does not fit is taken out, and told with what would be right.

What was read may hold values that no configuration here can have: a hold time of 1 s, an interface name of 40
characters. A value that is taken out leaves its default, except for a policy: its place is taken by "none", which lets
nothing through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bgpd.config.check import check_config
from bgpd.config.shape import Finding, shape_config
from bgpd.config.toml_lines import KeyPath, format_key_path
from bgpd.migrate.draft import AUTOMATIC, Draft, Place, Table

_ROUNDS = 50
_CLOSED = {"import": "none", "export": "none"}
_RESTRICTING = ("vrf", "families", "ttl_security", "max_neighbors", "bfd")
"""Without these a session would be another one, or take more: it is commented out as a whole."""
_ON_SOME_HOST: dict[str, int | str] = {"asn": 4_200_000_001, "router_id": "192.0.2.1"}
_FILES = ("password_file",)
"""Written after this, next to the configuration: not looked at here."""


class DoesNotFit(Exception):
    """A draft that cannot be made to fit."""


def make_fit(draft: Draft, place: Place) -> None:
    """Take out of a draft what does not fit, until `bgpd check` accepts the rest. `place` is what losses are told of.

    Raises: DoesNotFit: it cannot be done (a defect of bgpd's).
    """
    for _ in range(_ROUNDS):
        findings = _findings(draft)
        if not findings:
            return
        removed: set[KeyPath] = set()
        # Which tables they are about, before one of them is taken out and those behind it have other numbers.
        tables = [(finding, _table_of(draft, finding.path)) for finding in findings]
        for finding, found in sorted(tables, key=lambda one: len(one[0].path)):
            if not any(finding.path[: len(path)] == path for path in removed):
                removed.add(_take_out(draft, finding, found, place))
    raise DoesNotFit(f"{place}: {'; '.join(map(_text_of, _findings(draft)[:3]))}")


def _findings(draft: Draft) -> list[Finding]:
    config, findings = shape_config(_as_on_some_host(_without_files(draft.config())))
    return findings or list(check_config(config))


def _as_on_some_host(config: dict[str, Any]) -> dict[str, Any]:
    """What is worked out on the host that the configuration is for is something there."""
    router = config.get("router", {})
    for key, value in _ON_SOME_HOST.items():
        if router.get(key) == AUTOMATIC:
            router[key] = value
    return config


def _without_files(config: dict[str, Any]) -> dict[str, Any]:
    for section in ("neighbor", "listen"):
        for table in config.get(section, []):
            for key in _FILES:
                table.pop(key, None)
    return config


def _take_out(draft: Draft, finding: Finding, found: tuple[Table, int] | None, place: Place) -> KeyPath:
    """Take the value of one finding, which is about the table that was found, out of the draft; the path of what
    went."""
    if found is None:
        raise DoesNotFit(f"{place}: {_text_of(finding)}")
    table, depth = found
    key = str(finding.path[depth]) if len(finding.path) > depth else ""

    def lose(becomes: str) -> None:
        draft.lose(place, f"{_text_of(finding)}: {becomes}", finding.right, at=table)

    if table.section == "router" and key == "router_id" and table.values.get(key) != AUTOMATIC:
        lose('"auto" is taken')
        table.put(key, AUTOMATIC)
        return finding.path[: depth + 1]
    if table.section == "router" and key in ("asn", "router_id", ""):
        raise DoesNotFit(f"{place}: {_text_of(finding)}{f'; {finding.right}' if finding.right else ''}")
    if key in _CLOSED and table.section in ("neighbor", "listen"):
        lose("nothing is let through")
        table.put(key, _CLOSED[key], "what stood here does not fit")
        return finding.path[: depth + 1]
    if key in table.values and key not in (*_required(table), *_RESTRICTING):
        lose("left out")
        table.drop(key)
        return finding.path[: depth + 1]
    lose("all of it is commented out")
    table.is_proposal = True
    return finding.path[:depth]


def _required(table: Table) -> Sequence[str]:
    if table.section in ("neighbor", "listen"):
        both = () if table.values.get("address") and table.values.get("interface") else ("address", "interface")
        return ("name", "asn", "prefix", *both)
    return ("prefix", "interface", "name", "table", "rules", "prefixes", "interfaces")


def _table_of(draft: Draft, path: KeyPath) -> tuple[Table, int] | None:
    """The table that a key path leads into, and how many parts of the path name the table."""
    for section in {table.section for table in draft.tables}:
        parts = tuple(section.split("."))
        if path[: len(parts)] != parts:
            continue
        tables = draft.of(section)
        after = path[len(parts)] if len(path) > len(parts) else None
        if section == "policy" and after is not None:
            return next((table, 2) for table in tables if table.values["name"] == after)
        if isinstance(after, int) and after < len(tables) and tables[after].is_list:
            return tables[after], len(parts) + 1
        if tables and not tables[0].is_list:
            return tables[0], len(parts)
    return None


def _text_of(finding: Finding) -> str:
    return f"{format_key_path(finding.path)} {finding.what}".strip()
