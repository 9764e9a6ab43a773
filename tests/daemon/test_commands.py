"""The command line with a running daemon, as a person would use it in a hurry: one clear sentence, and an exit code.

0: done. 1: not done. 2: wrong usage.
"""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bgpd.cli.listing import names_of_fields
from bgpd.cli.tables import SHOWN
from tests.cli.test_json import fits
from tests.daemon.fabric import Fabric, Host, leaf, started
from tests.daemon.feed import API

pytestmark = pytest.mark.netns

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(scope="module")
def host(fabric: Fabric) -> Iterator[Host]:
    with started(fabric, leaf(1), API) as host:
        yield host


def bgpd(
    *words: str, socket: Path | str, before: tuple[str, ...] = (), stdout: int = subprocess.PIPE
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command; no traceback in either."""
    environment = {**os.environ, "BGPD_SOCKET": str(socket)}
    command = [*before, sys.executable, "-m", "bgpd", *words]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr + (done.stdout or "")
    return done.returncode, done.stdout or "", done.stderr


WRONG = {
    "": (2, "the following arguments are required: COMMAND"),
    "sho": (2, "did you mean show?"),
    "show": (2, "required: KIND"),
    "show neighbours": (2, "did you mean neighbors?"),
    "show neighbors --neighbor nobody": (1, 'there is no neighbor "nobody"\none of: leaf1'),
    "show neighbors leaf2": (1, 'there is no neighbor "leaf2"\ndid you mean "leaf1"?'),
    "show route nobody": (1, 'there is no neighbor "nobody"'),
    "show neighbors leaf1 --neighbor leaf1": (2, "leave one out"),
    "show neighbors --state running": (1, '"running" is no state; one of: idle, connect,'),
    "show neighbors --js": (2, "unrecognized arguments: --js"),
    "show routes --prefix 10.0.0.0/99": (1, "10.0.0.0/99"),
    "show routes --prefix 10.0.0.1/24": (1, "10.0.0.1/24 has host bits set"),
    "show routes --family ipv5": (1, '"ipv5" is no family; one of: ipv4-unicast'),
    "show routes --vrf nowhere": (1, 'there is no VRF "nowhere"'),
    "show routes --limit -1": (2, '"-1" is no whole number'),
    "show routes --limit x": (2, '"x" is no whole number'),
    "show fib --state bogus": (1, '"bogus" is no state'),
    "show evpn --type 300": (1, "300 is no EVPN route type; 1 to 255"),
    "show evpn --mac zz": (1, '"zz" is no MAC address'),
    "show evpn --rd q": (1, "route distinguisher"),
    "show workloads --source nobody": (1, '"nobody" is no source; one of: static'),
    "explain": (2, "required: ADDRESS"),
    "explain hello": (1, '"hello" is no address, and no workload or service has this name'),
    "explain 10.0.0.1/24": (2, "10.0.0.1/24 is 256 addresses"),
    "explain 10.0.0.1 --vrf nowhere": (1, 'there is no VRF "nowhere"'),
    "check /nowhere.toml": (1, "/nowhere.toml: cannot be read: No such file or directory"),
    "check /tmp": (1, "/tmp: cannot be read: Is a directory"),
    "plan /nowhere.toml": (1, "/nowhere.toml: cannot be read"),
    "run --config /nowhere.toml": (78, "/nowhere.toml: cannot be read"),
    "reload extra": (2, "unrecognized arguments: extra"),
    "decode": (2, "required: HEX"),
    "schema nope": (1, 'there is no schema "nope"'),
    "workload": (2, "required: ACTION"),
    "workload add x": (2, "no address given"),
    "workload add x --address 10.0.0.300": (1, '"10.0.0.300" is no IPv4 or IPv6 address'),
    "workload add x/y --address 10.0.0.3": (1, '"x/y" is no id'),
    "workload add x --address 10.0.0.3 --timeout -1": (2, '"-1" is no whole number from 0 to 600'),
    "workload add x --address 10.0.0.3 --vrf nowhere": (1, 'there is no VRF "nowhere"'),
    "workload add x --address 10.0.0.3 --kind cow": (2, "invalid choice: 'cow'"),
    "workload add x --address 10.0.0.3 --file /etc/hostname": (2, "--file goes with no other option"),
    "workload add x --file /nowhere": (1, "/nowhere cannot be read: No such file"),
    "workload add x --file /etc/hostname": (1, "not JSON"),
    "workload del nobody": (1, 'there is no workload "nobody"'),
    "workload del a/b": (1, 'there is no workload "a/b"'),
    "service add x": (2, "required: FILE"),
    "service add x /nowhere": (1, "/nowhere cannot be read"),
    "service del nobody": (1, 'there is no service "nobody"'),
    "show neighbors --socket /etc/passwd": (1, "/etc/passwd is no socket"),
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_told_and_nothing_is_taken_for_an_empty_answer(host: Host, line: str) -> None:
    code, said = WRONG[line]
    got, out, error = bgpd(*line.split(), socket=host.socket_path)
    assert (got, out) == (code, ""), (out, error)
    assert said in error
    sentences = [text for text in error.splitlines() if not re.match(r"usage: | {10}", text)]
    assert len(sentences) <= 2, "a sentence and a hint"


def test_nothing_found_says_so(host: Host) -> None:
    for line, said in (
        ("show fib", "no kernel routes of bgpd\n"),
        ("show evpn", "no EVPN routes\n"),
        ("show vrfs", "no VRFs\n"),
        ("show workloads", "no workloads\n"),
        ("show routes --prefix 10.0.0.0/8", "no routes that fit\n"),
        ("show neighbors --state established", "no neighbors that fit\n"),
    ):
        assert bgpd(*line.split(), socket=host.socket_path) == (0, said, ""), line


COMMANDS = (
    *("show neighbors", "show routes --json", "explain 10.0.0.1", "reload", "monitor", "workload list"),
    *("workload add x --address 10.0.0.1", "workload del x", "service list", "service del x"),
)


@pytest.mark.parametrize("line", COMMANDS)
def test_without_a_daemon_or_permission_each_command_says_what_to_do(host: Host, tmp_path: Path, line: str) -> None:
    code, out, error = bgpd(*line.split(), socket=tmp_path / "none.sock")
    assert (code, out) == (1, "")
    assert error.startswith(f"bgpd: bgpd is not running: nothing answers on {tmp_path}/none.sock\nstart it (systemctl")
    host.directory.chmod(0o755)
    code, out, error = bgpd(*line.split(), socket=host.socket_path, before=NOBODY)
    assert (code, out) == (1, "")
    assert error.startswith(f"bgpd: no permission to use {host.socket_path}\nrun as root, or as a member of")


def test_daemon_that_hangs_is_told_with_its_process(host: Host) -> None:
    os.kill(host.pid, signal.SIGSTOP)
    try:
        code, out, error = bgpd("show", "neighbors", socket=host.socket_path)
    finally:
        os.kill(host.pid, signal.SIGCONT)
    assert (code, out) == (1, "")
    first, second = error.splitlines()
    assert first == f"bgpd: bgpd (process {host.pid}) did not answer on {host.socket_path} for 10 s"
    assert second.startswith("it is stopped or stuck: systemctl status bgpd")
    assert host.health()["pid"] == host.pid


def test_output_that_cannot_be_written_is_told(host: Host) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for line in ("show neighbors", "show neighbors --json", "schema config", "explain 10.0.0.1"):
            code, _, error = bgpd(*line.split(), socket=host.socket_path, stdout=full)
            assert (code, error) == (1, "bgpd: the output cannot be written: No space left on device\n"), line
    finally:
        os.close(full)


VIEWS = {
    **{f"show {kind}": kind for kind in SHOWN},
    "status": "health",
    "top": "top",
    "explain 10.0.0.1": "explain",
    "why-not 10.0.0.1": "why-not",
    "what-if --down leaf1": "what-if",
    "what-if --drain": "what-if",
    "drain status": "drain",
    "reload": "reload",
    "workload add x --address 10.64.1.9": "workload-add",
    "workload list": "workloads",
    "workload del x": "workload-add",
}


def test_json_and_csv_of_a_real_daemon_are_what_the_schemas_say(host: Host) -> None:
    for line, name in VIEWS.items():
        _, out, error = bgpd(*line.split(), "--json", socket=host.socket_path)
        fits(out, name)
        assert error == "", line
    for kind in SHOWN:
        code, out, error = bgpd("show", kind, "--format", "csv", socket=host.socket_path)
        rows = list(csv.reader(io.StringIO(out, newline="")))
        assert (code, error, rows[0]) == (0, "", names_of_fields(kind, "csv"))
        assert {len(row) for row in rows} == {len(rows[0])}


def test_completion_has_what_a_real_daemon_has(host: Host) -> None:
    def offered(line: str) -> list[str]:
        code, out, error = bgpd("completion", "bash", "--", line, socket=host.socket_path)
        assert (code, error) == (0, "")
        return out.splitlines()

    assert offered("bgpd show neighbors ") == ["leaf1"]
    assert offered("bgpd show events --event bgpd.started") == ["bgpd.started"]
    assert "lo" in offered("bgpd what-if --down l")
    bgpd("workload", "add", "vm-7", "--address", "2001:db8:7::7", "--timeout", "0", socket=host.socket_path)
    try:
        assert offered("bgpd workload del v") == ["vm-7"]
        assert offered("bgpd explain 2001:db8:7") == ["2001:db8:7::7"]
        assert offered("bgpd show workloads 2001:") == ["2001:db8:7::7/128"]
    finally:
        bgpd("workload", "del", "vm-7", socket=host.socket_path)
    for line in (
        "show evpn --mac ",
        "show evpn --rd ",
        "show vrfs ",
        "show fib 10.",
        "show aggregates ",
        "show workloads --source ",
    ):
        assert offered(f"bgpd {line}") in ([], ["static"], ["api"]), line
