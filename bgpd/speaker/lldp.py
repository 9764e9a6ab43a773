"""What LLDP has heard of the other ends of this host's links, where lldpd runs (`lldpcli -f json show neighbors`).

Only reads what that program prints; when it is run, and what follows, is decided in hostnames.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bgpd.runtime.programs import ENVIRONMENT, ProgramRefused, checked_program, is_program, said_by

PROGRAM = "lldpcli"
_PATIENCE_S = 3.0
_MOST_BYTES = 1 << 20


async def read_lldp() -> tuple[Mapping[str, tuple[str, ...]], str]:
    """The names of the systems behind each interface, and why there are none ("" if LLDP was read, or is not there)."""
    folders = (*os.get_exec_path(), *os.get_exec_path(ENVIRONMENT))
    found = next((path for folder in folders if is_program(path := Path(folder, PROGRAM))), None)
    if found is None:
        return {}, ""
    try:
        path = checked_program(found)
        code, text = await said_by(
            [str(path), "-f", "json", "show", "neighbors"], timeout_s=_PATIENCE_S, most=_MOST_BYTES
        )
    except ProgramRefused as error:
        return {}, f"{PROGRAM} is not run: {error}"
    except TimeoutError:
        return {}, f"{PROGRAM} has not answered within {_PATIENCE_S:g} s"
    except OSError as error:
        return {}, f"{PROGRAM} cannot be run: {error.strerror or error}"
    if code:
        return {}, f"{PROGRAM} ended with {code}: does lldpd run, and may this user ask it?"
    try:
        return parse_lldp(text), ""
    except ValueError:
        return {}, f"{PROGRAM} printed no JSON of at most {_MOST_BYTES} bytes"


def parse_lldp(text: str) -> dict[str, tuple[str, ...]]:
    """The names of the systems behind each interface, as lldpd prints them with -f json or json0.

    Raises: ValueError: it is no JSON. What is not as lldpd prints it is passed over.
    """
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    found: dict[str, list[str]] = {}
    for interface, chassis in _interfaces(data):
        for name in _names(chassis):
            if name not in found.setdefault(interface, []):
                found[interface].append(name)
    return {interface: tuple(names) for interface, names in found.items() if names}


def _interfaces(data: Any) -> Iterator[tuple[str, Any]]:
    """Each interface with its chassis: `interface` is a table by name, or a list of tables by name or with a name."""
    for lldp in _items(data.get("lldp") if isinstance(data, dict) else None):
        for entry in _items(lldp.get("interface") if isinstance(lldp, dict) else None):
            if not isinstance(entry, dict):
                continue
            if isinstance(entry.get("name"), str):
                yield entry["name"], entry.get("chassis")
                continue
            for interface, heard in entry.items():
                for one in _items(heard):
                    if isinstance(one, dict):
                        yield interface, one.get("chassis")


def _names(chassis: Any) -> Iterator[str]:
    """The system's name: the key of its table, or the value of `name`. One without a name is known by its `id` only."""
    for one in _items(chassis):
        if not isinstance(one, dict):
            continue
        if "name" in one:
            for name in _items(one["name"]):
                value = name.get("value") if isinstance(name, dict) else name
                if isinstance(value, str) and value:
                    yield value
        elif not {"id", "descr", "mgmt-ip", "capability"} & one.keys():
            yield from (name for name, inner in one.items() if name and isinstance(inner, dict))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
