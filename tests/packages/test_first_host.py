"""docs/first-host.md, followed to the letter on a server with a real systemd and two leaves (FRR).

machine eth0 - leaf1 swp1, eth1 - leaf2 swp1, unnumbered; eth0.101 - swp1.101 of a third namespace, which is leaf1's
VRF blue. Only what needs the Internet or this machine's kernel may lack is left out: LEFT_OUT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from labs.daemons import Frr
from labs.machine import Machine
from labs.namespace import Namespace, link
from labs.process import LabError, wait_until
from tests.packages.built import ROOT

pytestmark = [pytest.mark.netns, pytest.mark.long]

PAGE = ROOT / "docs/first-host.md"
LEFT_OUT = ("sysctl --system", "apt install prometheus", "ip link add link eth0", "ip link set eth0.101")
WAIT_S = 90.0


class Block(NamedTuple):
    """A block of the page: its heading, language and text, and the file that the line before names."""

    heading: str
    language: str
    file: str
    text: str


def blocks() -> Iterator[Block]:
    heading = before = ""
    lines = iter(PAGE.read_text().splitlines())
    for line in lines:
        if found := re.match(r"```(\w+)", line):
            text = "\n".join(iter(lambda: next(lines), "```")) + "\n"
            file = re.findall(r"`(/[^`]+)`:$", before)
            yield Block(heading, found[1], file[-1] if file else "", text)
            before = ""
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        elif line:
            before = line


def frr_of(heading: str) -> str:
    """What the page configures of a leaf under a heading."""
    (text,) = (one.text for one in blocks() if one.heading == heading and one.text.startswith("router bgp"))
    return text


class Host:
    """The server, and what is done there."""

    def __init__(self, machine: Machine, deb: Path) -> None:
        self.machine = machine
        self.deb = deb

    def do(self, heading: str) -> None:
        """All blocks under a heading: files are written, commands run; each has to end well."""
        for block in (one for one in blocks() if one.heading == heading):
            if block.file:
                self.machine.write(block.file, block.text)
            for line in block.text.splitlines() if block.language == "sh" else ():
                command = line.split(" #")[0].strip()
                if not command.startswith(LEFT_OUT):
                    self.run(command.replace("./bgpd_VERSION_amd64.deb", str(self.deb)))

    def run(self, command: str) -> None:
        """One that only looks may be too early: a person would look again."""
        if command.startswith(("bgpd status", "bgpd show", "bgpd explain")):
            self.wait(lambda: self.machine.run("sh", "-c", command), command)
        else:
            self.machine.run("sh", "-c", command, timeout_s=180)

    def json(self, *words: str) -> Any:
        return json.loads(self.machine.run("bgpd", *words, "--json", check=False) or "null")

    def wait(self, wanted: Any, what: str) -> None:
        def is_so() -> bool:
            try:
                return bool(wanted())
            except (LabError, KeyError, IndexError):
                return False

        try:
            wait_until(is_so, WAIT_S, what)
        except LabError as error:
            status = self.machine.run("sh", "-c", "bgpd status; journalctl -u bgpd -n 40 -o cat", check=False)
            raise AssertionError(f"{error}\n{status}") from error


class Leaves(NamedTuple):
    """leaf1, and what leaf1's VRF is here."""

    leaf1: Frr
    blue: Frr


@pytest.fixture(scope="module")
def places(deb: Path) -> Iterator[tuple[Host, Leaves]]:
    with ExitStack() as stack:
        labels = ("machine", "leaf1", "leaf2", "blue")
        network, leaf1, leaf2, blue = (stack.enter_context(Namespace(label, prefix="F")) for label in labels)
        link(network, "eth0", leaf1, "swp1")
        link(network, "eth1", leaf2, "swp1")
        link(network, "eth0.101", blue, "swp1.101")
        try:
            machine = stack.enter_context(Machine(network))
        except LabError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        machine.run("rm", "-f", "/usr/sbin/policy-rc.d")
        machine.run("dpkg", "--purge", "openbgpd")
        text = frr_of("Two leaves, with BFD")
        first = stack.enter_context(Frr(leaf1, text, bfd=True))
        stack.enter_context(Frr(leaf2, text.replace("65201", "65202").replace("255.0.1", "255.0.2"), bfd=True))
        tenant = frr_of("A tenant").replace(" vrf blue", "", 1)
        yield Host(machine, deb), Leaves(first, stack.enter_context(Frr(blue, tenant)))


def leaf_has(frr: Frr, prefix: str) -> bool:
    return prefix in frr.vtysh_json("show bgp ipv4 unicast json")["routes"]


def test_bare_machine_becomes_a_host_with_two_leaves(places: tuple[Host, Leaves]) -> None:
    host, leaves = places
    host.do("Install")
    host.do("Two leaves, with BFD")
    host.wait(lambda: host.json("status")["ready"], "the host to be ready")
    host.wait(lambda: [one["state"] for one in host.json("show", "bfd")] == ["up", "up"], "BFD with both")
    host.wait(lambda: leaf_has(leaves.leaf1, "10.255.1.1/32"), "the leaf to have the host's address")
    assert {one["state"] for one in host.json("show", "neighbors")} == {"established"}
    hops = host.json("explain", "192.0.2.1")["kernel"]["next_hops"]
    assert {(one["interface"], one["live"]) for one in hops} == {("eth0", True), ("eth1", True)}


def test_service_is_announced_while_its_backend_answers(places: tuple[Host, Leaves]) -> None:
    host, leaves = places
    host.do("A service")
    host.wait(lambda: leaf_has(leaves.leaf1, "10.64.100.1/32"), "the leaf to have the service")
    host.machine.run("systemctl", "stop", "web")
    host.wait(lambda: not leaf_has(leaves.leaf1, "10.64.100.1/32"), "the service to go with its backend")


def test_tenant_has_its_own_addresses(places: tuple[Host, Leaves]) -> None:
    host, leaves = places
    ups = [one["since"] for one in host.json("show", "neighbors")]
    host.do("A tenant")
    host.wait(lambda: leaf_has(leaves.blue, "10.64.1.5/32"), "the tenant's router to have its address")
    (workload,) = host.json("show", "workloads", "--vrf", "blue")
    assert (workload["state"], workload["neighbors"]) == ("announced", ["leaf1-blue"])
    assert [one["since"] for one in host.json("show", "neighbors") if not one["vrf"]] == ups, "no session was reset"


def test_page_is_there(places: tuple[Host, Leaves]) -> None:
    host, _ = places
    host.do("The page")
    assert "<title>" in host.machine.run("curl", "--silent", "http://127.0.0.1:9179/")


def test_alert_tells_of_a_session_that_is_shut(places: tuple[Host, Leaves]) -> None:
    host, leaves = places
    host.do("An alert")

    def pending() -> list[str]:
        text = host.machine.run("curl", "--silent", "--fail", "http://127.0.0.1:9090/api/v1/alerts")
        alerts = json.loads(text)["data"]["alerts"]
        return [f"{one['labels']['alertname']} {one['labels'].get('neighbor')}" for one in alerts]

    leaves.leaf1.vtysh("configure terminal", "router bgp 65201", "neighbor swp1 shutdown")
    host.wait(lambda: "BgpdNeighborDown leaf1" in pending(), "the alert")
