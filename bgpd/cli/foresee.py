"""`bgpd what-if`: what would become of the routes, asked before it is done."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bgpd.cli.client import Client, WrongUsage
from bgpd.cli.decode import Hooks
from bgpd.cli.render import Table, View, printable

_FATES = ("unchanged", "fewer", "moved", "lost", "new")
_COLUMNS = ("Table", "Unchanged", "Fewer next hops", "Another way", "Lost", "New", "Default route")


def what_if(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd what-if`: exit code 1 if routes would be lost, a drain would be refused, or the file has errors."""
    if not arguments.drain and (arguments.all or arguments.force):
        raise WrongUsage("--all and --force say how far a drain goes", "bgpd what-if --drain --all")
    client = Client(arguments.socket)
    if arguments.reload is not None:
        view = _reloaded(client, arguments.reload)
        if view is None:
            return 1
    elif arguments.drain:
        parameters = {"drain": "all" if arguments.all else "services", "force": arguments.force or None}
        view = client.order("GET", "/v1/what-if", parameters=parameters)
    else:
        view = client.order("GET", "/v1/what-if", parameters={"down": arguments.down})
    if arguments.json:
        print(json.dumps(view, indent=1))
    else:
        _write(view, file=arguments.reload or "")
    is_refused = view["drain"] and view["last"] and not arguments.force
    return 1 if is_refused or any(one["lost"] for one in view["tables"]) else 0


def _reloaded(client: Client, file: str) -> View | None:
    """The answer for a file; None if it has errors, which are told. Raises: CommandFailed."""
    import msgspec

    from bgpd.cli.files import load_for_daemon

    loaded = load_for_daemon(file, client)
    if loaded is None:
        return None
    body = msgspec.json.encode(without_defaults(loaded.config))
    return client.order("POST", "/v1/what-if", body=body)  # type: ignore[no-any-return]


def without_defaults(value: Any) -> Any:
    """A configuration without what it does not say: a request has 256 KiB at most."""
    import msgspec

    if isinstance(value, msgspec.Struct):
        found = {}
        for field in msgspec.structs.fields(value):
            one = getattr(value, field.name)
            default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
            if one != default:
                found[field.encode_name] = without_defaults(one)
        return found
    if isinstance(value, dict):
        return {key: without_defaults(one) for key, one in value.items()}
    return [without_defaults(one) for one in value] if isinstance(value, tuple) else value


def _write(view: View, *, file: str) -> None:
    what = f"without {view['down']}" if view["down"] else f"with {file}" if file else f"drained ({view['drain']})"
    print(printable(f"{what}: {view['verdict']}"))
    if view["reload"] is not None:
        from bgpd.cli.files import write_changes

        write_changes(view["reload"])
    table = Table(_COLUMNS, sys.stdout)
    table.write(
        (
            f"{one['family']}{' VRF ' + one['vrf'] if one['vrf'] else ''}",
            *(str(one[name]) for name in _FATES),
            one["default_route"] or "none",
        )
        for one in view["tables"]
    )
    table.end()
    for one in view["tables"]:
        for fate, prefixes in one["examples"].items():
            _write_some(fate, prefixes, one[fate])
    told = Table(("Neighbor", "Sent", "Withdrawn"), sys.stdout)
    told.write((one["neighbor"], str(one["announced"]), str(one["withdrawn"])) for one in view["told"])
    told.end()
    for one in view["told"]:
        for word, prefixes in one["examples"].items():
            _write_some(f"{one['neighbor']} {word}", prefixes, one[word])
    for text in view["not_foreseen"]:
        print(printable(f"not foreseen: {text}"))


def _write_some(what: str, prefixes: list[str], count: int) -> None:
    print(printable(f"{what}: {', '.join(prefixes)}{', ...' if len(prefixes) < count else ''}"))
