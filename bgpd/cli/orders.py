"""Commands that change what the running daemon does: workload, service, evpn."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bgpd.cli.client import TIMEOUT_S, Client, CommandFailed, WrongUsage, segment
from bgpd.cli.decode import Hooks
from bgpd.cli.near import did_you_mean, near_names

REACHABLE = ("announced", "suppressed")


def add_workload(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd workload add ID`: from options, or from a JSON payload."""
    names = ("interface", "mac", "vrf", "kind", "sticky", "exception")
    payload: dict[str, Any] = {name: value for name in names if (value := getattr(arguments, name))}
    if arguments.file:
        if payload or arguments.address:
            raise WrongUsage(
                "--file goes with no other option of the workload", "put all into the file, or leave it out"
            )
        body = _read(arguments.file)
    elif not arguments.address:
        raise WrongUsage("no address given", "--address 10.64.1.5/32, or --file FILE with a JSON payload")
    else:
        body = json.dumps({"addresses": arguments.address, **payload}).encode()
    return _put(arguments, f"/v1/workloads/{segment(arguments.id)}", body)


def add_service(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd service add NAME FILE`: from a JSON payload."""
    return _put(arguments, f"/v1/services/{segment(arguments.id)}", _read(arguments.file))


def delete(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd workload del ID`, `bgpd service del NAME`."""
    client, kind = Client(arguments.socket), f"{arguments.command}s"
    try:
        answer = client.order("DELETE", f"/v1/{kind}/{segment(arguments.id)}")
    except CommandFailed as failure:
        if not failure.what.startswith("there is no "):
            raise
        found = near_names(client, kind, arguments.id)
        raise CommandFailed(failure.what, did_you_mean(found) or failure.hint) from None
    if answer.get("errors") or arguments.json:
        return _report(answer, as_json=arguments.json)
    print(f"{arguments.id} deleted")
    _say_if_not_saved(answer)
    return 0


def clear_mac(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd evpn clear MAC`."""
    answer = Client(arguments.socket).order("DELETE", f"/v1/frozen/{segment(arguments.mac)}")
    if arguments.json:
        print(json.dumps(answer, indent=1))
    else:
        print(f"{answer['mac']}: {answer['endpoints']} endpoints are tried anew")
    return 0


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}", "name a file that you may read") from None


def _put(arguments: argparse.Namespace, target: str, body: bytes) -> int:
    parameters = {"timeout_s": arguments.timeout}
    timeout_s = TIMEOUT_S + (arguments.timeout or 0)
    client = Client(arguments.socket)
    report = client.order("PUT", target, parameters=parameters, body=body, timeout_s=timeout_s)
    return _report(report, as_json=arguments.json)


def _report(report: dict[str, Any], *, as_json: bool) -> int:
    """Tells what became of it; exit code 1 unless it is announced, itself or by the aggregate that covers it.

    That no neighbor has it now is said, and costs no exit code: the address is here, and goes to whoever comes.
    """
    state = report.get("state", "")
    is_gone = "deleted" in (state, report.get("reason"))
    if "announced" in report:
        nobody = str(report.get("reason", "")).startswith("to nobody")  # no neighbor has it now, which may change
        state = "announced" if report["announced"] or nobody else "not announced"
    code = 0 if (state in REACHABLE or is_gone) and not report.get("errors") else 1
    if as_json:
        print(json.dumps(report, indent=1))
        return code
    if state:
        reason = f": {report['reason']}" if report.get("reason") else ""
        print(f"{report.get('id') or report.get('name')} {state}{reason}")
    for error in report.get("errors", ()):
        where = f"{error['path']}: " if error.get("path") else ""
        print(f"bgpd: {where}{error['wrong']}{'; ' + error['right'] if error.get('right') else ''}", file=sys.stderr)
    _say_if_not_saved(report)
    return code


def _say_if_not_saved(report: dict[str, Any]) -> None:
    """A crash of the daemon would lose what was ordered."""
    if report.get("not_saved"):
        print(f"bgpd: in force, but not saved: {report['not_saved']}; a crash now would lose it", file=sys.stderr)
