"""Two tenants with the same addresses, shown and checked: who reaches whom, a cut link, and VMs that move.

Holds that packets stay within their tenant, that a cut link costs no more than a failure may, and that a live migration
loses no more than the VM's own silence, and the other tenant nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator

from labs.announce import Announcer
from labs.checks import Expectation
from labs.experiments import AFTER_S, OUTAGE_LIMIT_MS, Experiments
from labs.kernel import live_next_hops
from labs.laboratory import Laboratory
from labs.process import LabError, wait_until
from labs.service_traffic import ServiceTraffic
from labs.topology import Node
from labs.traffic import Pair, reachable

TENANTS = {"blue": ("1001", {"eth0.101", "eth1.101"}), "red": ("1002", {"eth0.102", "eth1.102"})}
"""Kernel table and uplinks of each tenant's VRF on both hosts."""
HOSTS = {"host1": "eth0", "host2": "eth1"}
"""The hosts, and the interface of a VM that leads to each."""
PORT = 8000
BLUE_ONLY = "10.64.9.1"
PAUSE_S = 0.2
"""How long a VM is silent at least while it moves: a short one, so that the network's own share shows."""
MARGIN_MS = 250.0
"""What a move may cost beyond the VM's silence: noise of a shared machine, a ping interval, an ARP request."""
CUT_LIMIT_MS = OUTAGE_LIMIT_MS * (3 if "BGPD_GUEST" in os.environ else 1)
"""In the guest of tests/vm all nodes share one slow CPU, on which starting a program takes most of a second."""


class EvpnTwoTenant(Experiments):
    """For `evpn-two-tenant.clab.yml`."""

    def __init__(self, lab: Laboratory, *, headline: Callable[[str], None], show: Callable[[str, str], None]) -> None:
        super().__init__(lab, headline=headline, show=show)
        self._place = dict.fromkeys(TENANTS, "host1")
        self._sequences: dict[str, int] = {}

    def bring_up(self) -> None:
        """Tell host1 of the VMs, wait for all routes, then see who reaches whom."""
        self._headline("the VMs start on host1")
        with self._checked("VMs told") as detail:
            for tenant in TENANTS:
                self._tell(tenant, "host1")
            detail.append("by the API of host1, with their MACs")
        self.converge("convergence")
        if self.outcomes[-1].passed:
            self.isolation("isolation")

    def expected(self) -> Iterable[Expectation]:
        """Sessions, and in each VRF of each host the tenant's remote addresses over both uplinks."""
        leaves = [node.name for node in self.lab.topology.with_role("leaf")]
        for host in HOSTS:
            established = self.lab.bgpd[host].established()
            yield from ((f"session {host} - {leaf}", leaf in established) for leaf in leaves)
            for tenant, (table, uplinks) in TENANTS.items():
                yield from self._vrf_routes(host, tenant, table, uplinks)

    def steps(self) -> None:
        """Moves there and back, then a cut link."""
        self.move("blue", "host2")
        self.isolation("isolation after the move")
        self.move("red", "host2")
        self.move("blue", "host1")
        pairs = [pair for tenant in TENANTS for pair in self._pairs(tenant)]
        leaf, host = "leaf1", "host1"
        down, up = (lambda: self.lab.set_link(leaf, host, "down")), (lambda: self.lab.set_link(leaf, host, "up"))
        self.under_traffic(f"link {leaf} - {host} cut", down, pairs=pairs, limit_ms=CUT_LIMIT_MS)
        self.under_traffic(f"link {leaf} - {host} restored", up, pairs=pairs, limit_ms=CUT_LIMIT_MS, converge=True)

    def commands(self, host: str) -> list[list[str]]:
        """What the host knows of EVPN and its VRFs, and the path to the VM that moved and came back."""
        shown = [["show", view] for view in ("neighbors", "vrfs", "evpn", "fib", "workloads")]
        return [*shown, ["explain", self._addresses("blue-vm")[0], "--vrf", "blue"]]

    # What must be there.

    def _nodes(self, tenant: str) -> list[Node]:
        return [node for node in self.lab.topology.nodes.values() if node.labels.get("tenant") == tenant]

    def _addresses(self, node: str) -> list[str]:
        return self.lab.topology.nodes[node].addresses

    def _local(self, node: Node, host: str) -> bool:
        """Whether a pod or VM is on this host now."""
        if node.role == "vm":
            return self._place[node.labels["tenant"]] == host
        return host in {neighbor.name for neighbor in self.lab.topology.neighbors(node.name)}

    def _vrf_routes(self, host: str, tenant: str, table: str, uplinks: set[str]) -> Iterator[Expectation]:
        remote = [node for node in self._nodes(tenant) if not self._local(node, host)]
        for ipv6 in (False, True):
            try:
                routes = live_next_hops(self.lab.namespaces[host], ipv6=ipv6, table=table)
            except LabError:
                routes = {}
            for address in (address for node in remote for address in node.addresses if (":" in address) == ipv6):
                found = routes.get(address, [])
                yield f"{host}: {tenant} {address} over both uplinks (now: {found})", set(found) == uplinks

    # Who reaches whom.

    def isolation(self, check: str) -> None:
        """Each reaches all of its own tenant and is answered by them, not by their like; nobody reaches further."""
        self._headline(f"{check}: same addresses, each tenant by itself")
        with self._checked(check) as detail:
            pairs = [(node, peer) for tenant in TENANTS for node, peer in self._ordered_pairs(tenant)]
            failed = [wrong for node, peer in pairs for wrong in self._wrong(node, peer)]
            if failed:
                raise LabError("; ".join(failed))
            self.lab.progress(f"{len(pairs)} of {len(pairs)} pairs answer, IPv4 and IPv6, each by the right one")
            leaks = [node.name for node in self._nodes("red") if reachable(self._pair(node, BLUE_ONLY), attempts=1)]
            if leaks:
                raise LabError(f"blue's own address {BLUE_ONLY} answers {', '.join(leaks)}")
            if not reachable(self._pair(self.lab.topology.nodes["blue-pod1"], BLUE_ONLY)):
                raise LabError(f"blue's own address {BLUE_ONLY} does not answer blue-pod1")
            self.lab.progress(f"{BLUE_ONLY}, which only blue has, answers blue and not red")
            detail.append(f"{len(pairs)} pairs within tenants answer by the right one; none of red reaches {BLUE_ONLY}")

    def _ordered_pairs(self, tenant: str) -> list[tuple[Node, Node]]:
        nodes = self._nodes(tenant)
        return [(node, peer) for node in nodes for peer in nodes if node is not peer]

    def _wrong(self, node: Node, peer: Node) -> Iterator[str]:
        for address in peer.addresses:
            if not reachable(self._pair(node, address)):
                yield f"{node.name} gets no answer from {address} ({peer.name})"
        flows = ServiceTraffic(self.lab.namespaces[node.name], peer.addresses[0], PORT, flows=1).stop()
        if flows[0].backend != peer.name:
            yield f"{node.name} asked {peer.addresses[0]}, and {flows[0].backend or flows[0].error} answered"

    def _pair(self, node: Node, address: str) -> Pair:
        return Pair(self.lab.namespaces[node.name], address)

    def _pairs(self, tenant: str) -> list[Pair]:
        """Pings within a tenant between hosts, and to its VM from both."""
        pods, vm = (f"{tenant}-pod1", f"{tenant}-pod2"), f"{tenant}-vm"
        ways = [pods, pods[::-1], (pods[0], vm), (pods[1], vm)]
        nodes = self.lab.topology.nodes
        return [self._pair(nodes[source], address) for source, target in ways for address in self._addresses(target)]

    # Moving a VM.

    def _tell(self, tenant: str, host: str) -> None:
        """Whoever starts or moves VMs tells the host; answered when the address is announced."""
        vm = f"{tenant}-vm"
        words = ["workload", "add", vm, "--kind", "vm", "--vrf", tenant, "--interface", vm]
        words += ["--mac", self.lab.namespaces[vm].mac("br0")]
        for address in self._addresses(vm):
            words += ["--address", f"{address}/{128 if ':' in address else 32}"]
        self.lab.progress(f"{host}# bgpd {' '.join(words)}: {self.lab.bgpd[host].cli(*words).strip()}")

    def _pause(self, tenant: str, host: str) -> None:
        """The VM hears and says nothing more there; the host's tap stays up, as that of a paused VM does."""
        self.lab.namespaces[f"{tenant}-vm"].ip("link", "set", HOSTS[host], "nomaster")

    def _resume(self, tenant: str, host: str) -> None:
        self.lab.namespaces[f"{tenant}-vm"].ip("link", "set", HOSTS[host], "master", "br0")

    def move(self, tenant: str, to: str) -> None:
        """A live migration: the VM pauses, the new host is told, the VM goes on there, the old host is told."""
        before, vm = self._place[tenant], f"{tenant}-vm"
        other = next(name for name in TENANTS if name != tenant)
        self._headline(f"{vm} moves from {before} to {to}")
        with self._checked(f"{vm} moves from {before} to {to}") as detail:
            silent_ms = 0.0
            others: list[str] = []
            with (
                self.pings(others, pairs=self._pairs(other), limit_ms=0),
                self.pings(detail, pairs=self._pairs(tenant), limit_ms=lambda: silent_ms + MARGIN_MS),
            ):
                silent_ms = self._migrate(tenant, before, to)
                wait_until(lambda: self._state(vm, before) in ("moved", ""), 10, f"{before} to see that {vm} moved")
                sequence = self._sequence(vm, before)
                self.lab.progress(f"{before}: {vm} is {self._state(vm, before) or 'gone'}, sequence {sequence}")
                if sequence <= self._sequences.get(vm, 0):
                    raise LabError(f"{vm} moved, and its sequence number is still {sequence}")
                self._sequences[vm] = sequence
                self.lab.bgpd[before].cli("workload", "del", vm)
                time.sleep(AFTER_S)
            detail.append(f"the VM itself was silent for {silent_ms:.0f} ms; sequence {sequence}; {other}: {others[0]}")

    def _migrate(self, tenant: str, before: str, to: str) -> float:
        """Pause, tell, go on and say so; returns the VM's silence in ms."""
        vm = f"{tenant}-vm"
        announcer = Announcer(self.lab.namespaces[vm], "br0", self._addresses(vm))
        start = time.monotonic()
        self._pause(tenant, before)
        self._tell(tenant, to)
        time.sleep(max(0.0, PAUSE_S - (time.monotonic() - start)))
        self._resume(tenant, to)
        announcer.send()
        silent_ms = 1000 * (time.monotonic() - start)
        announcer.close()
        self._place[tenant] = to
        return silent_ms

    def _sequence(self, vm: str, host: str) -> int:
        """The highest mobility sequence number that a host knows of a VM (RFC 7432 section 7.7)."""
        routes = self.lab.bgpd[host].show("evpn", "--type", "2", "--mac", self.lab.namespaces[vm].mac("br0"))
        communities = [one for route in routes for path in route["candidates"] for one in path["extended_communities"]]
        found = re.findall(r"mac-mobility:(\d+)", " ".join(communities))
        return max(map(int, found), default=0)

    def _state(self, workload: str, host: str) -> str:
        found = [view for view in self.lab.bgpd[host].show("workloads") if view["id"] == workload]
        return str(found[0]["state"]) if found else ""
