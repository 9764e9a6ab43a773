"""A host with two leaves and its pods, each in a namespace, and bgpd as a process on the host.

host eth0 10.0.1.1, 2001:db8:1::1 - leaf1 swp1 10.0.1.2, 2001:db8:1::2
host eth1 10.0.2.1, 2001:db8:2::1 - leaf2 swp1 10.0.2.2, 2001:db8:2::2 (and unnumbered, by the link-local addresses)
host pod1, pod2 - pods pod1, pod2
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labs.daemons import Bgpd, Frr
from labs.namespace import Namespace, link
from labs.process import LabError, LoggedProcess, wait_until

DEFECTS = (
    "bgpd.defect",
    "bgpd.connection_defect",
    "consistency.repairing",
    "consistency.failed",
    "api.failed",
    "api.broken_off",
    "library.message",
    "Traceback",
)
"""What no log may hold, whatever anybody did to the daemon."""

WAIT_S = 15.0


class Fabric:
    """The four namespaces; a context manager."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.host, self.leaf1, self.leaf2, self.pods = (
                stack.enter_context(Namespace(label, prefix="t")) for label in ("host", "leaf1", "leaf2", "pods")
            )
            self.link_leaf(1)
            self.link_leaf(2)
            for pod in ("pod1", "pod2"):
                link(self.host, pod, self.pods, pod)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def link_leaf(self, number: int) -> None:
        """Connect leaf 1 or 2 with the host, and give both ends their addresses."""
        leaf = (self.leaf1, self.leaf2)[number - 1]
        link(self.host, f"eth{number - 1}", leaf, "swp1")
        self.host.addresses(f"eth{number - 1}", f"10.0.{number}.1/24", f"2001:db8:{number}::1/64")
        leaf.addresses("swp1", f"10.0.{number}.2/24", f"2001:db8:{number}::2/64")

    def frr(self, number: int, *lines: str, peer: str = "", networks: tuple[str, ...] = ()) -> Frr:
        """FRR as leaf1 or leaf2, announcing `networks`; `lines` are further ones of the router block."""
        leaf = (self.leaf1, self.leaf2)[number - 1]
        return Frr(leaf, frr_config(number, *lines, peer=peer, networks=networks))


class FabricWithSwitch(Fabric):
    """As Fabric; there is one more namespace when the links are made, for switches in them."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.switch = stack.enter_context(Namespace("switch", prefix="t"))
            super().__enter__()
            self._switches = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(None, None, None)
        self._switches.close()


def frr_config(number: int, *lines: str, peer: str = "", networks: tuple[str, ...] = ()) -> str:
    """frr.conf of leaf 1 or 2: AS 65201 or 65202; `peer` is the host's address or "swp1" for an unnumbered session."""
    peer = peer or f"10.0.{number}.1"
    remote = f"neighbor {peer} interface remote-as external" if peer == "swp1" else f"neighbor {peer} remote-as 65203"
    block = [
        f"router bgp 6520{number}",
        f"bgp router-id 10.255.0.{number}",
        "no bgp ebgp-requires-policy",
        "no bgp network import-check",
        remote,
        f"neighbor {peer} timers connect 1",
        *lines,
        "address-family ipv4 unicast",
        f"neighbor {peer} activate",
        *(f"network {network}" for network in networks if ":" not in network),
        "exit-address-family",
        "address-family ipv6 unicast",
        f"neighbor {peer} activate",
        *(f"network {network}" for network in networks if ":" in network),
        "exit-address-family",
        "exit",
    ]
    return "\n".join(block) + "\n"


def announce(frr: Frr, *networks: str, withdraw: bool = False) -> None:
    """Have a leaf originate networks, or originate them no longer."""
    asn = str(frr.vtysh_json("show bgp vrf default json")["localAS"])
    for family in ("ipv4", "ipv6"):
        chosen = [network for network in networks if (":" in network) == (family == "ipv6")]
        if chosen:
            words = [f"{'no ' if withdraw else ''}network {network}" for network in chosen]
            frr.vtysh("configure terminal", f"router bgp {asn}", f"address-family {family} unicast", *words)


def frr_paths(frr: Frr, prefix: str) -> list[dict[str, Any]]:
    """The paths that a leaf has of a prefix."""
    family = "ipv6" if ":" in prefix else "ipv4"
    found: list[dict[str, Any]] = frr.vtysh_json(f"show bgp {family} unicast {prefix} json").get("paths", [])
    return found


def heard_from_host(frr: Frr, prefix: str) -> bool:
    """Whether a leaf has a path of a prefix that the host originated."""
    return any(path.get("aspath", {}).get("string") == "65203" for path in frr_paths(frr, prefix))


def table(name: str, /, **fields: object) -> str:
    """One TOML table, such as table("[[neighbor]]", name="leaf1", asn=65201); a trailing _ of a key is dropped."""
    lines = (f"{key.rstrip('_')} = {json.dumps(value)}" for key, value in fields.items())
    return "\n".join([name, *lines, ""])


ROUTER = table("[router]", asn=65203, router_id="10.255.1.1", hostname="host1")


def leaf(number: int, **fields: object) -> str:
    """The [[neighbor]] of leaf 1 or 2, by its IPv4 address unless `fields` say otherwise; None drops a field."""
    values = {
        "name": f"leaf{number}",
        "address": f"10.0.{number}.2",
        "asn": 65200 + number,
        "import_": "all",
        "connect_retry_s": 1,
        **fields,
    }
    return table("[[neighbor]]", **{key: value for key, value in values.items() if value is not None})


def config(*tables: str) -> str:
    """A whole configuration text."""
    return "\n".join([ROUTER, *tables])


class Host(Bgpd):
    """bgpd on the host: asked through its socket, and held against the kernel of its namespace.

    Its end leaves no kernel route of it behind, and checks that no log line tells of a defect.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        log = self.log_path.read_text()
        self.stop()
        clear_kernel(self.namespace)
        if error is None:
            found = [line for line in log.splitlines() if any(word in line for word in DEFECTS)]
            assert not found, "\n".join(found) + log[-3000:]

    def request(self, target: str) -> tuple[int, bytes]:
        """Status and body of GET TARGET over the unix socket."""
        connection = http.client.HTTPConnection("bgpd", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(10)
            connection.sock.connect(str(self.socket_path))
            connection.request("GET", target)
            response = connection.getresponse()
            return response.status, response.read()
        except OSError as error:
            raise LabError(f"GET {target}: {error}") from error
        finally:
            connection.close()

    def get(self, target: str, **parameters: str | int) -> Any:
        """The JSON of GET /v1/TARGET.

        Raises: LabError: it cannot be asked, or answers with an error.
        """
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        status, body = self.request(f"/v1/{target}{query}")
        if status != 200:
            raise LabError(f"GET /v1/{target}: status {status}: {body.decode()}")
        return json.loads(body)

    def health(self) -> dict[str, Any]:
        """/v1/health, whatever its status."""
        found: dict[str, Any] = json.loads(self.request("/v1/health")[1])
        return found

    def neighbor(self, name: str) -> dict[str, Any]:
        """The view of one neighbor.

        Raises: LabError: there is none of that name (yet).
        """
        views: list[dict[str, Any]] = [view for view in self.get("neighbors") if view["name"] == name]
        if not views:
            raise LabError(f"no neighbor {name}")
        return views[0]

    def established(self) -> list[str]:
        return sorted(view["name"] for view in self.get("neighbors") if view["state"] == "established")

    def explain(self, address: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"explain/{address}")
        return found

    def reload_with(self, *tables: str) -> None:
        """Take over a configuration of these tables."""
        self.write_config(config(*tables))
        self.cli("reload")

    def metric(self, name: str, **labels: str) -> float:
        """One sample of /metrics."""
        text = self.request("/metrics")[1].decode()
        wanted = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
        line = next(line for line in text.splitlines() if line.rpartition(" ")[0] == name + wanted)
        return float(line.rpartition(" ")[2])

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """The log's records, or those of one event."""
        records = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]
        return [record for record in records if not event or record["event"] == event]

    def wait(self, predicate: Any, what: str, timeout_s: float = WAIT_S) -> float:
        """wait_until, with the logs of this daemon; a command that fails meanwhile means "not yet"."""
        return wait_until(predicate, timeout_s, what, logs=self.logs, interval_s=0.02)

    def wait_established(self, *names: str) -> float:
        return self.wait(lambda: set(names) <= set(self.established()), f"{names} to be established")

    def wait_ready(self) -> float:
        return self.wait(lambda: self.health()["ready"], "the host to be ready", timeout_s=30)

    def wait_hops(self, prefix: str, *hops: str) -> float:
        """Wait until the kernel forwards a prefix by exactly these next hops, as `kernel_hops` writes them."""
        wanted = sorted(hops)
        try:
            return self.wait(lambda: kernel_hops(self.namespace, prefix) == wanted, f"{prefix} by {wanted}")
        except LabError as error:
            raise LabError(f"{error}\nthe kernel has {kernel_hops(self.namespace, prefix)}") from None


def started(fabric: Fabric, *tables: str, wait: bool = True) -> Host:
    """bgpd with a configuration of these tables on the fabric's host."""
    return Host(fabric.host, config(*tables), wait=wait)


def clear_kernel(namespace: Namespace) -> None:
    """Delete what bgpd left in the kernel."""
    for command in ("-4 route flush proto 217", "-6 route flush proto 217", "nexthop flush proto 217"):
        namespace.ip(*command.split())


def kernel_routes(namespace: Namespace, *, ipv6: bool = False, table: str = "main") -> dict[str, dict[str, Any]]:
    """bgpd's routes (protocol 217) in a kernel table, by prefix as `ip -N` writes them."""
    family = "-6" if ipv6 else "-4"
    text = namespace.ip("-N", family, "-j", "route", "show", "table", table, "proto", "217")
    return {route["dst"]: route for route in json.loads(text or "[]")}


def kernel_hops(namespace: Namespace, prefix: str) -> list[str]:
    """The next hops of bgpd's route of a prefix, as "10.0.1.2%eth0" or "eth0", sorted; empty if there is none."""
    route = kernel_routes(namespace, ipv6=":" in prefix).get(prefix.removesuffix("/32").removesuffix("/128"))
    if route is None:
        return []
    if "nhid" not in route:
        return [route["dev"]] if "dev" in route else []
    objects = {entry["id"]: entry for entry in json.loads(namespace.ip("-j", "nexthop", "show") or "[]")}
    members = objects.get(route["nhid"], {}).get("group", ())
    return sorted(_hop(objects[member["id"]]) for member in members if member["id"] in objects)


def _hop(entry: dict[str, Any]) -> str:
    gateway = entry.get("gateway") or entry.get("via", {}).get("host", "")
    return f"{gateway}%{entry['dev']}" if gateway else str(entry["dev"])


def nexthops_unused(namespace: Namespace) -> set[int]:
    """Groups of bgpd's that no route of any table points at, and single next hops that are in no group."""
    objects = json.loads(namespace.ip("-j", "nexthop", "show"))
    shown = [namespace.ip(family, "-j", "route", "show", "table", "all", "proto", "217") for family in ("-4", "-6")]
    used = {route["nhid"] for text in shown for route in json.loads(text or "[]") if "nhid" in route}
    for entry in objects:
        if entry["id"] in used:
            used |= {member["id"] for member in entry.get("group", ())}
    return {entry["id"] for entry in objects} - used


class RouteWatch:
    """What becomes of the routes of a namespace, or of other `objects`: `ip monitor`, started when the context is
    entered."""

    def __init__(self, namespace: Namespace, directory: Path, *objects: str) -> None:
        self._namespace = namespace
        self._objects = objects or ("route",)
        self._log_path = directory / "routes.log"
        self._marks = 0
        self._process: LoggedProcess | None = None

    def __enter__(self) -> RouteWatch:
        self._process = self._namespace.popen("ip", "-N", "-o", "monitor", *self._objects, log_path=self._log_path)
        self._mark()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process is not None
        self._process.stop()

    def lines(self, protocol: int = 217) -> list[str]:
        """All that was told until now about routes of a protocol."""
        self._mark()
        return [line for line in self._log_path.read_text().splitlines() if f"proto {protocol}" in line]

    def _mark(self) -> None:
        """Wait until the monitor has told a change that is made now, and so everything before it."""
        self._marks += 1
        mark = f"203.0.113.{self._marks}"

        def seen() -> bool:
            self._namespace.ip("route", "replace", "blackhole", mark, "table", "9999")
            self._namespace.ip("route", "del", "blackhole", mark, "table", "9999")
            return mark in self._log_path.read_text()

        wait_until(seen, WAIT_S, "ip monitor to follow")
