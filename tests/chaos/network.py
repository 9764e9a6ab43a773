"""The real parts of a chaos run: a host with bgpd, four leaves, pods, VMs and a broker, each in a namespace of its own.

host eth0..eth3 10.0.N.1, 2001:db8:N::1 - leaves 1 to 4, swp1 10.0.N.2, 2001:db8:N::2
leaf1 (graceful restart), leaf2 (none): FRR with BFD; they forward counted pings. leaf3, leaf4: raw bytes, with EVPN.
The session of leaf4 is unnumbered, and that link has no global IPv6 addresses. Uplinks of the VRF: tenant.py.
host pod1, pod2, pod3 - the pods; host vm1 - the VMs of the VRF; the broker listens on the host's loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from labs.daemons import Bfd, Frr
from labs.namespace import Namespace, link
from labs.process import LabError, wait_until
from labs.traffic import Flow, FlowResult, Pair
from tests.chaos import tenant
from tests.chaos.heard import Host as HostSide
from tests.chaos.model import (
    ASN,
    BACKENDS,
    EXTRA,
    FRR_LEAVES,
    LEAVES,
    PODS,
    RAW_LEAVES,
    SERVED,
    SHARED,
    SHARED_IPV6,
    UNNUMBERED,
    Claim,
    Model,
)
from tests.chaos.raw_leaf import Ends, RawLeaf
from tests.daemon.fabric import Host, config, leaf, table
from tests.daemon.feed import API, MQTT, Orchestrator
from tests.daemon.managed import ManagedHost

FOREIGN_PROTOCOL = "250"
FOREIGN_NEXTHOP = 7
"""A nexthop object of another program."""
FOREIGN_TABLE_ROUTE = "10.99.0.0/24"
PING_INTERVAL_S = 0.02
BACK_S = 60.0
"""Until a daemon that was started answers, on a machine that has much else to do."""
BFD = "bfd = { interval_ms = 300, multiplier = 5 }\n"
POLICY = """
[policy.some]
rules = [{ match = { prefix = [%s] }, action = "reject" }, { action = "accept" }]
"""


class Network:
    """All of it, running; a context manager."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.leaves: dict[int, Namespace] = {}
        self.frr: dict[int, Frr] = {}
        self.raw: dict[int, RawLeaf] = {}
        self._stack = contextlib.ExitStack()
        self._flows: dict[str, Flow] = {}

    def __enter__(self) -> Network:
        with contextlib.ExitStack() as stack:
            self._up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _up(self, stack: contextlib.ExitStack) -> None:
        sysctls = {"net.ipv6.conf.all.keep_addr_on_down": "1", "net.ipv6.conf.default.keep_addr_on_down": "1"}
        self.host_namespace, self.pods, self.vms = (
            stack.enter_context(Namespace(label, prefix="chaos", sysctls=sysctls)) for label in ("host", "pods", "vms")
        )
        for number in LEAVES:
            self.leaves[number] = stack.enter_context(Namespace(f"leaf{number}", prefix="chaos", sysctls=sysctls))
            self._link_leaf(number)
        self._link_pods()
        self._link_vrf()
        self.feed = stack.enter_context(Orchestrator(self.host_namespace))
        for number in FRR_LEAVES:
            self.frr[number] = stack.enter_context(Frr(self.leaves[number], self.frr_config(number), bfd=True))
        for number in RAW_LEAVES:
            raw = RawLeaf(self.leaves[number], number, ASN[number], self._ends(number))
            raw.announce_evpn(*self.model.tenant.routes(number))
            self.raw[number] = stack.enter_context(raw)
        self.bfd = stack.enter_context(Bfd(self.host_namespace))
        self.host: Host = stack.enter_context(ChaosHost(self.host_namespace, self.config()))
        self._starts = Lines(self.host.log_path)

    def _link_leaf(self, number: int) -> None:
        host, leaf_namespace = self.host_namespace, self.leaves[number]
        link(host, f"eth{number - 1}", leaf_namespace, "swp1")
        numbered = number != UNNUMBERED
        host.addresses(f"eth{number - 1}", *self.addresses(number))
        leaf_namespace.addresses("swp1", f"10.0.{number}.2/24", *([f"2001:db8:{number}::2/64"] if numbered else []))
        if number in FRR_LEAVES:
            leaf_namespace.addresses("lo", f"{SERVED[number][1]}/32", f"{SHARED[1]}/32", f"{SHARED_IPV6[1]}/128")

    def _link_pods(self) -> None:
        for pod in ("pod1", "pod2", "pod3"):
            link(self.host_namespace, pod, self.pods, pod)
        self.host_namespace.addresses("pod1", "169.254.1.1/32", "fe80::1/64")
        self.pods.addresses("pod1", f"{PODS[0]}/32", f"{PODS[1]}/128")
        self.pods.batch(
            "route add 169.254.1.1/32 dev pod1 scope link",
            "route add default via 169.254.1.1 dev pod1",
            "route add default via fe80::1 dev pod1",
        )
        self.host_namespace.batch(
            f"nexthop add id {FOREIGN_NEXTHOP} blackhole proto {FOREIGN_PROTOCOL}",
            f"route add blackhole {FOREIGN_TABLE_ROUTE} proto {FOREIGN_PROTOCOL} table 99",
        )

    def _link_vrf(self) -> None:
        host = self.host_namespace
        link(host, tenant.VM_INTERFACE, self.vms, "vm1")
        host.addresses(tenant.VM_INTERFACE, "169.254.1.1/32")
        self.vms.addresses("vm1", f"{tenant.VM}/32")
        self.vms.batch("route add 169.254.1.1/32 dev vm1 scope link", "route add default via 169.254.1.1 dev vm1")
        for number in tenant.ENDS:
            name = tenant.uplink(number)
            link(host, name, self.leaves[number], "swp1.101")
            host.ip("link", "set", name, "address", tenant.uplink_mac(number))
            host.addresses(name, *tenant.uplink_addresses(number))
            self.leaves[number].addresses("swp1.101", *tenant.leaf_addresses(number))
        self.leaves[3].addresses("lo", f"{tenant.SERVED[1]}/32")
        self.route_back()

    def route_back(self) -> None:
        """leaf3 answers the VM by its end of the uplink; the kernel forgets that when the end goes down."""
        gateway = tenant.uplink_addresses(3)[0].partition("/")[0]
        self.leaves[3].ip("route", "replace", f"{tenant.VM}/32", "via", gateway)

    def addresses(self, number: int) -> tuple[str, ...]:
        """Those that the host has on its link to a leaf, beside the link-local one that the kernel makes."""
        ipv4, ipv6 = f"10.0.{number}.1/24", f"2001:db8:{number}::1/64"
        return (ipv4,) if number == UNNUMBERED else (ipv4, ipv6)

    def _ends(self, number: int) -> Ends:
        own, host = f"10.0.{number}.2", f"10.0.{number}.1"
        tenancies = (tenant.tenancy_of_host(number),)
        if number != UNNUMBERED:
            return Ends(own, HostSide(host, f"2001:db8:{number}::1", host, tenancies))
        own = link_local(self.leaves[number], "swp1")
        by = link_local(self.host_namespace, f"eth{number - 1}")
        return Ends(own, HostSide(by, by, host, tenancies))

    # Configurations.

    def frr_config(self, number: int) -> str:
        """frr.conf of leaf 1 or 2, with what it announces now."""
        peer, announced = f"10.0.{number}.1", sorted(self.model.announced[number])
        graceful = ["bgp graceful-restart", "bgp graceful-restart restart-time 60"]
        lines = [
            f"router bgp {ASN[number]}",
            f"bgp router-id 10.255.0.{number}",
            "no bgp ebgp-requires-policy",
            "no bgp network import-check",
            *(graceful if number == 1 else []),
            f"neighbor {peer} remote-as 65203",
            f"neighbor {peer} timers connect 1",
            f"neighbor {peer} bfd 5 300 300",
        ]
        for family, ipv6 in (("ipv4", False), ("ipv6", True)):
            networks = (f"network {prefix}" for prefix in announced if (":" in prefix) == ipv6)
            block = [f"address-family {family} unicast", f"neighbor {peer} activate", *networks, "exit-address-family"]
            lines += block
        return "\n".join([*lines, "exit", ""])

    def config(self) -> str:
        """bgpd.toml as it is to be now."""
        model, tables = self.model, [MQTT, API, table("[workload.kernel]", interfaces=["pod3"])]
        for number in model.neighbors:
            fields: dict[str, object] = {"asn": ASN[number], "hold_time_s": model.hold_time_s if number == 3 else 9}
            if number in tenant.ENDS:
                fields["families"] = ["ipv4-unicast", "ipv6-unicast", "l2vpn-evpn"]
            if number == UNNUMBERED:
                fields |= {"address": None, "interface": f"eth{number - 1}"}
            if number == 1 and model.has_policy:
                fields["import_"] = "some"
            tables.append(leaf(number, **fields).rstrip() + f"\n{BFD if number in FRR_LEAVES else ''}")
        for address, interface in {PODS[1]: "pod1", **BACKENDS}.items():
            length = 128 if ":" in address else 32
            tables.append(table("[[workload.static]]", prefix=f"{address}/{length}", interface=interface))
        if model.has_extra:
            tables.append(table("[[workload.static]]", prefix=f"{EXTRA}/32", interface="pod2"))
        if model.has_policy:
            tables.append(POLICY % ", ".join(f'"10.40.{number}.0/24"' for number in range(0, 60, 3)))
        tables += vrf_tables(model.tenant) if model.tenant.is_configured else []
        tables += [table("[bfd]", socket=str(self.bfd.socket_path)), table("[drain]", settle_s=1)]
        return config(*tables)

    def reload(self) -> None:
        """Have the daemon take over the configuration of now.

        Raises: LabError: it does not.
        """
        self.host.write_config(self.config())
        status, answer = self.order("POST", "reload")
        if status != 200:
            raise LabError(f"a good configuration was refused: {answer}")

    # The daemon.

    def order(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """METHOD /v1/TARGET over the unix socket, again until a daemon answers: status and answer."""
        found: list[tuple[int, Any]] = []

        def ask() -> bool:
            found.append(self._ask(method, target, body))
            return found[-1][0] != 503

        wait_until(ask, BACK_S, f"{method} /v1/{target} to be answered", logs=self.host.logs)
        return found[-1]

    def _ask(self, method: str, target: str, body: Any) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("bgpd", timeout=30)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection.sock:
                connection.sock.settimeout(30)
                connection.sock.connect(str(self.host.socket_path))
                connection.request(method, f"/v1/{target}", body=None if body is None else json.dumps(body))
                response = connection.getresponse()
                text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"{method} /v1/{target}: {error}") from error
        return response.status, json.loads(text) if text else None

    def put_workload(self, id: str, claim: Claim) -> None:
        """Claim by the API.

        Raises: LabError: it was refused.
        """
        body = {"addresses": list(claim.addresses), "interface": claim.interface, "vrf": claim.vrf, "mac": claim.mac}
        status, answer = self.order("PUT", f"workloads/{id}?timeout_s=1", body)
        if status not in (200, 202, 409):  # announced, not yet, contested
            raise LabError(f"{id} was refused: {status} {answer}")

    def delete_workload(self, id: str) -> None:
        """End a claim of the API.

        Raises: LabError: it was not ended.
        """
        status, answer = self.order("DELETE", f"workloads/{id}")
        if status not in (200, 404):  # 404: asked twice, since the first answer was lost
            raise LabError(f"{id} was not deleted: {status} {answer}")

    def wait_running(self) -> None:
        """Until the daemon answers, and has started."""
        wait_until(lambda: self._runs(), BACK_S, "bgpd to run", logs=self.host.logs)

    def _runs(self) -> bool:
        self.host.get("drain")  # waits for a daemon that starts
        return True

    def daemon_pid(self) -> int:
        """Of the process of now, which its service manager has started; it may not answer yet."""
        manager = self.host.processes[-1].pid
        return int(Path(f"/proc/{manager}/task/{manager}/children").read_text().split()[0])

    def kill_daemon(self) -> None:
        """SIGKILL; the service manager starts it again."""
        self._starts.new()
        os.kill(self.daemon_pid(), signal.SIGKILL)
        self._wait_started()

    def restart_daemon(self) -> None:
        """As systemctl restart: sessions are handed over."""
        self._starts.new()
        self.host.processes[-1].send_signal(signal.SIGUSR1)
        self._wait_started()

    def interrupt_hand_over(self, after_s: float) -> None:
        """SIGKILL while sessions are handed over, of the one process or of the other; the service manager goes on."""
        self._starts.new()
        self.host.processes[-1].send_signal(signal.SIGUSR1)
        time.sleep(after_s)
        with contextlib.suppress(ProcessLookupError, IndexError):  # it is between the two
            os.kill(self.daemon_pid(), signal.SIGKILL)
        self._wait_started()

    def damage_hand_over(self) -> None:
        """A restart whose snapshot arrives damaged: a graceful restart."""
        self._starts.new()
        self.host.processes[-1].send_signal(signal.SIGUSR2)
        self._wait_started()

    def _wait_started(self) -> None:
        what = "the next process to start"
        self.host.wait(lambda: any('"bgpd.started"' in line for line in self._starts.new()), what, BACK_S)

    # Traffic.

    def start_flows(self) -> None:
        """Pings from a pod to what is behind leaf1, leaf2, and both, and from a VM to what is behind leaf3."""
        directory = self.pods.make_directory("traffic")
        targets = {
            "leaf1": (SERVED[1][1], PODS[0]),
            "leaf2": (SERVED[2][1], PODS[0]),
            "both": (SHARED[1], PODS[0]),
            "both, IPv6": (SHARED_IPV6[1], PODS[1]),
        }
        pairs = {name: Pair(self.pods, target, source) for name, (target, source) in targets.items()}
        pairs["the VRF"] = Pair(self.vms, tenant.SERVED[1], tenant.VM)
        for name, pair in pairs.items():
            self._flows[name] = Flow(pair, directory, interval_s=PING_INTERVAL_S)
        for name, flow in self._flows.items():
            wait_until(flow.has_reply, BACK_S, f"an answer to the ping by {name}")

    def stop_flows(self) -> dict[str, FlowResult]:
        """End them; what each lost."""
        found = {name: flow.stop() for name, flow in self._flows.items()}
        self._flows.clear()
        return found


class ChaosHost(ManagedHost):
    """Its end leaves the log to the run's own look."""

    def __exit__(self, *exception: object) -> None:
        self.stop()


def vrf_tables(model: tenant.Tenant) -> list[str]:
    """The VRF, and its workload of the configuration."""
    uplinks = [tenant.uplink(number) for number in tenant.ENDS]
    imported = [tenant.TARGET, *([tenant.OTHER_TARGET] if model.imports_more else [])]
    targets = {"import_rt": imported, "export_rt": [tenant.TARGET]}
    vrf = table("[[vrf]]", name=tenant.VRF, table=tenant.TABLE, vni=tenant.VNI, uplinks=uplinks, **targets)
    workload = {"prefix": f"{tenant.VM}/32", "interface": tenant.VM_INTERFACE, "vrf": tenant.VRF}
    return [vrf, table("[[workload.static]]", id="vm", **workload)]


def link_local(namespace: Namespace, interface: str) -> str:
    """The address that the kernel has made for an interface that is up."""

    def found() -> list[str]:
        shown = json.loads(namespace.ip("-6", "-j", "address", "show", "dev", interface, "scope", "link") or "[]")
        return [one["local"] for entry in shown for one in entry.get("addr_info", ())]

    wait_until(lambda: bool(found()), BACK_S, f"the link-local address of {interface}")
    return found()[0]


class Lines:
    """The lines that come to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[str]:
        """Those that are complete, and were not answered yet."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()
