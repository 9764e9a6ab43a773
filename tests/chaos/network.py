"""The real parts of a chaos run: a host with bgpd, four leaves, pods and a broker, each in a namespace of its own.

host eth0..eth3 10.0.N.1, 2001:db8:N::1 - leaves 1 to 4, swp1 10.0.N.2, 2001:db8:N::2
leaf1 (graceful restart), leaf2 (none): FRR with BFD; they forward the counted pings. leaf3, leaf4: raw bytes.
host pod1, pod2, pod3 - the pods; the broker listens on the host's loopback.
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
    Model,
)
from tests.chaos.raw_leaf import RawLeaf
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
        self.host_namespace, self.pods = (
            stack.enter_context(Namespace(label, prefix="chaos", sysctls=sysctls)) for label in ("host", "pods")
        )
        for number in LEAVES:
            self.leaves[number] = stack.enter_context(Namespace(f"leaf{number}", prefix="chaos", sysctls=sysctls))
            self._link_leaf(number)
        self._link_pods()
        self.feed = stack.enter_context(Orchestrator(self.host_namespace))
        for number in FRR_LEAVES:
            self.frr[number] = stack.enter_context(Frr(self.leaves[number], self.frr_config(number), bfd=True))
        for number in RAW_LEAVES:
            self.raw[number] = stack.enter_context(RawLeaf(self.leaves[number], number, ASN[number]))
        self.bfd = stack.enter_context(Bfd(self.host_namespace))
        self.host: Host = stack.enter_context(ChaosHost(self.host_namespace, self.config()))
        self._starts = Lines(self.host.log_path)

    def _link_leaf(self, number: int) -> None:
        host, leaf_namespace = self.host_namespace, self.leaves[number]
        link(host, f"eth{number - 1}", leaf_namespace, "swp1")
        host.addresses(f"eth{number - 1}", f"10.0.{number}.1/24", f"2001:db8:{number}::1/64")
        leaf_namespace.addresses("swp1", f"10.0.{number}.2/24", f"2001:db8:{number}::2/64")
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
        """Pings from a pod to what is behind leaf1, leaf2, and both."""
        directory = self.pods.make_directory("traffic")
        targets = {
            "leaf1": (SERVED[1][1], PODS[0]),
            "leaf2": (SERVED[2][1], PODS[0]),
            "both": (SHARED[1], PODS[0]),
            "both, IPv6": (SHARED_IPV6[1], PODS[1]),
        }
        for name, (target, source) in targets.items():
            self._flows[name] = Flow(Pair(self.pods, target, source), directory, interval_s=PING_INTERVAL_S)
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
