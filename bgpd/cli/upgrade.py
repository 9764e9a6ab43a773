"""`bgpd upgrade`: the running daemon becomes the version that is installed.

Where systemd runs it, root has systemd restart the unit, which is then as it is installed, too. Else the daemon
executes the installed version itself. Both hand the sessions over.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bgpd.cli.client import Client, CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.progress import progress
from bgpd.cli.render import handover_lines, printable

_POLL_S = 0.1
_RESTART_S = 120
_TARGET = "/v1/upgrade"


def upgrade(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd upgrade`.

    Raises: CommandFailed: the installed version cannot start, or the sessions cannot be handed over; all is as before.
    """
    client = Client(arguments.socket)
    before = client.get(_TARGET)
    unit = _unit_of(client.daemon_pid) if os.geteuid() == 0 else ""
    order = {"only_check": bool(arguments.check or unit)}
    view = client.order("POST", _TARGET, body=json.dumps(order).encode())
    if arguments.check and arguments.json:
        print(json.dumps(view, indent=1))
        return 0
    if arguments.check:
        print(f"{view['version']} runs; {view['installed']} is installed, and can start")
        return 0
    if unit:
        _restart(unit)
    with progress.of("waiting for the installed version"):
        after = _followed(client, before, time.monotonic() + arguments.timeout)
    if arguments.json:
        print(json.dumps(after, indent=1))
        return 0
    print(f"{before['version']} is now {after['version']}, process {after['pid']}")
    health = client.get("/v1/health", accepted=(503,))
    handover = health.get("last_handover")
    lines = handover_lines(handover, time.time()) if handover else ["hand-over: none; it was a graceful restart"]
    for line in lines:
        print(printable(line))
    return 0


def _unit_of(pid: int) -> str:
    """The unit whose main process this is; "" if it is none's."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
        found = re.search(r"/([^/\n]+\.service)$", groups, re.MULTILINE)
        if found is None:
            return ""
        command = ["systemctl", "show", "--property=MainPID", "--value", "--", found[1]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RESTART_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found[1] if done.stdout.strip() == str(pid) else ""


def _restart(unit: str) -> None:
    """Raises: CommandFailed: systemd could not."""
    command = ["systemctl", "restart", "--", unit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RESTART_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f"{' '.join(command)}: {error}", f"restart {unit} by hand") from None
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}: {done.stderr.strip()}", f"see systemctl status {unit}")


def _followed(client: Client, before: dict[str, Any], end: float) -> dict[str, Any]:
    """What runs once another daemon does than before. Raises: CommandFailed: none does."""
    why = ""
    while time.monotonic() < end:
        try:
            view: dict[str, Any] = client.get(_TARGET)
        except CommandFailed as failure:
            why = str(failure)
        else:
            why = f"{view['version']}, process {view['pid']}, has not started yet"
            if view["born"] == before["born"]:
                why = "the former one still runs"
                if view["failed"]:
                    hint = "nothing has changed; systemctl restart bgpd restarts it all the same, gracefully"
                    raise CommandFailed(f"the sessions could not be handed over: {view['failed']}", hint)
            elif view["running"]:
                return view
        time.sleep(_POLL_S)
    raise CommandFailed(f"the installed version does not run yet: {why}", "see the log: journalctl -u bgpd")
