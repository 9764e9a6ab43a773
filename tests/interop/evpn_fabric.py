"""Two hosts with bgpd, their tenants, and a leaf between them, each in a network namespace.

host1 eth0 10.0.1.1/31 - leaf swp1 10.0.1.0     host1 eth0.101 10.1.1.1/24 - leaf, bridge br101
host2 eth0 10.0.2.1/31 - leaf swp2 10.0.2.0     host2 eth0.101 10.1.1.2/24 - leaf, bridge br101
host1 vm - ends vm1             host2 vm - ends vm2
host1, host2 eth0.102: a second tenant's uplinks, 10.2.1.1/24 and 10.2.1.2/24 - leaf, bridge br102

All of it works by plain veth pairs, so that it needs no VLAN devices.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from labs.daemons import Bgpd
from labs.namespace import Namespace, link
from labs.process import LabError

LEAF_ASN = 65201
HOST_ASNS = {1: 65203, 2: 65204}
BLUE, RED = "65201:5001", "65201:5002"
MAC = "02:00:00:00:01:14"
DEFECTS = ("bgpd.defect", "bgpd.connection_defect", "consistency.repairing", "api.failed", "Traceback")
"""What no log may hold."""
LEFT = (
    "route flush table all protocol 217",
    "-6 route flush table all protocol 217",
    "rule flush protocol 217",
    "-6 rule flush protocol 217",
    "nexthop flush protocol 217",
)


class EvpnFabric:
    """The namespaces; a context manager. `hosts` by number."""

    def __enter__(self) -> EvpnFabric:
        with contextlib.ExitStack() as stack:
            self.leaf = stack.enter_context(Namespace("leaf", prefix="x"))
            self.ends = stack.enter_context(Namespace("ends", prefix="x"))
            self.hosts = {number: stack.enter_context(Namespace(f"host{number}", prefix="x")) for number in (1, 2)}
            for bridge in ("br101", "br102"):
                self.leaf.batch(f"link add {bridge} type bridge forward_delay 0", f"link set {bridge} up")
            for number, host in self.hosts.items():
                self._connect(number, host)
            self._stack = stack.pop_all()
        return self

    def _connect(self, number: int, host: Namespace) -> None:
        link(host, "eth0", self.leaf, f"swp{number}")
        host.addresses("eth0", f"10.0.{number}.1/31", f"2001:db8:{number}::1/64")
        self.leaf.addresses(f"swp{number}", f"10.0.{number}.0/31", f"2001:db8:{number}::2/64")
        for name, vlan in (("eth0.101", 101), ("eth0.102", 102)):
            link(host, name, self.leaf, f"swp{number}.{vlan}")
            self.leaf.ip("link", "set", f"swp{number}.{vlan}", "master", f"br{vlan}")
        host.addresses("eth0.101", f"10.1.1.{number}/24", f"2001:db8:101::{number}/64")
        host.addresses("eth0.102", f"10.2.1.{number}/24")
        link(host, "vm", self.ends, f"vm{number}")
        host.set_sysctls({"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def bgpd(self, number: int, config: str) -> Iterator[Bgpd]:
        """bgpd on a host; its log must tell of no defect in the end. What it leaves in the kernel for its next run,
        which would wait for all neighbors before it changes any of it, goes after that.
        """
        try:
            with Bgpd(self.hosts[number], config) as daemon:
                yield daemon
                log = daemon.log_path.read_text()
                assert not [word for word in DEFECTS if word in log], log[-4000:]
        finally:
            for words in LEFT:
                self.hosts[number].run("ip", *words.split(), check=False)


def host_config(number: int, *tables: str, families: tuple[str, ...] = ("l2vpn-evpn",), neighbor: str = "") -> str:
    """bgpd on host 1 or 2 with its session to the leaf; `neighbor` are further lines of that."""
    return f"""
[router]
asn = {HOST_ASNS[number]}
router_id = "10.255.1.{number}"
hostname = "host{number}"
[[neighbor]]
name = "leaf"
address = "10.0.{number}.0"
asn = {LEAF_ASN}
families = {json.dumps(families)}
import = "all"
hold_time_s = 9
connect_retry_s = 1
{neighbor}
[workload.api]
{"".join(tables)}
"""


def vrf(name: str = "blue", *lines: str) -> str:
    """The [[vrf]] of tenant blue or red."""
    target, table, uplink, vni = (BLUE, 1001, "eth0.101", 5001) if name == "blue" else (RED, 1002, "eth0.102", 5002)
    text = f"""
[[vrf]]
name = "{name}"
table = {table}
import_rt = ["{target}"]
export_rt = ["{target}"]
vni = {vni}
uplinks = ["{uplink}"]
"""
    return text + "".join(f"{line}\n" for line in lines)


def static(prefix: str, *, tenant: str = "blue", interface: str = "vm") -> str:
    """A [[workload.static]]; which is no MAC's."""
    return (
        f'\n[[workload.static]]\nid = "{tenant} {prefix}"\nprefix = "{prefix}"\n'
        f'interface = "{interface}"\nvrf = "{tenant}"\n'
    )


def add_vm(daemon: Bgpd, *addresses: str, mac: str = MAC, sticky: bool = False, check: bool = True) -> str:
    """Tell a host of the VM "vm" in blue; what the command said."""
    words = ["workload", "add", "vm", "--kind", "vm", "--vrf", "blue", "--interface", "vm", "--mac", mac]
    words += [word for address in addresses for word in ("--address", address)]
    return daemon.cli(*words, *(["--sticky"] if sticky else []), check=check)


def evpn(daemon: Bgpd, *filters: str) -> dict[tuple[int, str, str], dict[str, Any]]:
    """`show evpn` by (type, MAC, prefix): the only candidate, or the best one."""
    found = {}
    for route in daemon.show("evpn", *filters):
        found[route["type"], route["mac"], route["prefix"]] = route["candidates"][0] | {
            key: route[key] for key in ("rd", "ethernet_tag", "vrf")
        }
    return found


def kernel_routes(host: Namespace, table: int = 1001, *, ipv6: bool = False) -> dict[str, dict[str, Any]]:
    """The routes of a kernel table by destination."""
    try:
        rows = json.loads(host.ip("-j", *(["-6"] if ipv6 else []), "route", "show", "table", str(table)) or "[]")
    except LabError:
        return {}  # the table does not exist yet
    return {row["dst"]: row for row in rows}
