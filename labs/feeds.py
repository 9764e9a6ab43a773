"""Where prefixes come from, shown and checked: workloads by MQTT and API, aggregates, an exception, a service.

Plays the orchestrator (publishes on the broker, calls `bgpd workload`), then breaks things under running pings and TCP
flows and holds the losses to what each may cost: a dead broker, a restarted bgpd and a changed aggregate nothing, a
failed backend its own flows only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from labs.checks import Expectation, await_all, sessions
from labs.daemons import Mosquitto
from labs.experiments import AFTER_S, Experiments
from labs.kernel import live_next_hops
from labs.process import LabError, wait_until
from labs.service_traffic import ServiceFlow, ServiceTraffic, hold_to, summary
from labs.traffic import Pair

SERVICE, PORT, FLOWS = "10.64.100.1", 8000, 60
AGGREGATE, WIDER = "10.64.1.0/26", "10.64.1.0/25"
PODS = {
    "host1": {"pod11": ("10.64.1.1", "pod1"), "pod12": ("10.64.1.2", "pod2"), "pod13": ("10.64.1.3", "pod3")},
    "host2": {"pod21": ("10.64.2.1", "pod1"), "pod22": ("10.64.2.2", "pod2"), "pod29": ("10.64.1.9", "pod9")},
}
"""The pods of each host: address and host side interface. pod29 has moved to host2 from host1's block."""
EXCEPTION = "pod29"
FAILING = "pod11"
DOWN_S = 2.0


class Feeds(Experiments):
    """For `feeds.clab.yml`."""

    def bring_up(self) -> None:
        """Publish the workloads and services, then wait until the fabric has what it should, and no more."""
        self._headline("the orchestrator speaks: host1's pods and both services by MQTT, host2's pods by the API")
        with self._checked("workloads and services told") as detail:
            self._publish("host1", {**self._workloads("host1"), **self._service("host1")})
            self._publish("host2", {**self._service("host2"), "sync": {"generation": 1, "count": 0, "services": 1}})
            for pod, (address, interface) in PODS["host2"].items():
                said = self._add_by_api(pod, address, interface)
                self.lab.progress(f"host2# bgpd workload add {pod}: {said.strip()}")
            detail.append("3 workloads and 2 services by MQTT, 3 workloads by the API")
        self.converge("convergence")
        if self.outcomes[-1].passed:
            self.reach("reachability")

    def expected(self) -> Iterable[Expectation]:
        """Sessions; in the leaves the aggregates, the exception and the service over both hosts, no pod of a block.

        In the hosts what they have of each other, over both leaves.
        """
        return [*sessions(self.lab), *self._leaf_routes(self._announced()), *self._host_routes()]

    def steps(self) -> None:
        """The four things that happen, and what they may cost."""
        self._costs_nothing("broker dead", self._broker.kill)
        self._costs_nothing("broker back, with nothing retained", self._broker.start)
        host1 = self.lab.bgpd["host1"]
        self._costs_nothing("host1: bgpd killed", host1.kill, wait=False)
        self._costs_nothing("host1: bgpd started again", host1.start)
        self._backend_fails()
        self._aggregate_changes()
        self.reach("reachability afterwards")

    def commands(self, host: str) -> list[list[str]]:
        """The tables of what was claimed, and the path of the service address."""
        shown = ("neighbors", "workloads", "aggregates", "services", "fib")
        return [*(["show", view] for view in shown), ["explain", SERVICE]]

    # What the orchestrator says.

    @property
    def _broker(self) -> Mosquitto:
        return self.lab.brokers["broker"]

    def _workloads(self, host: str) -> dict[str, object]:
        pods = {
            f"workloads/{pod}": {"kind": "pod", "addresses": [f"{address}/32"], "interface": interface}
            for pod, (address, interface) in PODS[host].items()
        }
        return {**pods, "sync": {"generation": 1, "count": len(pods), "services": 1}}

    def _service(self, host: str) -> dict[str, object]:
        backends = [{"id": pod, "addresses": [address]} for pod, (address, _) in PODS[host].items() if pod != EXCEPTION]
        check = {"type": "tcp", "port": PORT, "interval_s": 0.2, "timeout_s": 0.2, "rise": 2, "fall": 2}
        return {
            "services/web": {"addresses": [SERVICE], "resilient": True, "backends": backends, "check": check},
        }

    def _publish(self, host: str, payloads: dict[str, object]) -> None:
        for topic, payload in payloads.items():
            self._broker.publish(f"bgpd/v1/hosts/{host}/{topic}", json.dumps(payload), retain=True)

    def _add_by_api(self, pod: str, address: str, interface: str) -> str:
        words = ["workload", "add", pod, "--address", f"{address}/32", "--interface", interface, "--kind", "pod"]
        return self.lab.bgpd["host2"].cli(*words, *(["--exception"] if pod == EXCEPTION else []))

    # What the leaves must have.

    def _announced(self, first: Collection[str] = (AGGREGATE,)) -> dict[str, set[str]]:
        """Prefixes by the hosts that announce them; `first` is what host1 announces of its own block."""
        moved = PODS["host2"][EXCEPTION][0]
        routes = {"10.64.2.0/26": {"host2"}, moved: {"host2"}, SERVICE: {"host1", "host2"}}
        return routes | {prefix: {"host1"} for prefix in first}

    def _leaf_routes(self, announced: dict[str, set[str]]) -> Iterator[Expectation]:
        for leaf in self.lab.topology.with_role("leaf"):
            ends = {host: self.lab.topology.link_between(leaf.name, host)[0].interface for host in PODS}
            routes = live_next_hops(self.lab.namespaces[leaf.name], ipv6=False)
            for prefix, hosts in announced.items():
                found = routes.get(prefix, [])
                wanted = {ends[host] for host in hosts}
                yield f"{leaf.name}: {prefix} by {sorted(hosts)} (now: {found})", set(found) == wanted
            for prefix in routes:
                if prefix.startswith("10.64."):
                    yield f"{leaf.name}: no {prefix}", prefix in announced

    def _host_routes(self) -> Iterator[Expectation]:
        learned = {"host1": ("10.64.2.0/26", PODS["host2"][EXCEPTION][0]), "host2": (AGGREGATE,)}
        for host, prefixes in learned.items():
            routes = live_next_hops(self.lab.namespaces[host], ipv6=False)
            for prefix in prefixes:
                found = routes.get(prefix, [])
                yield f"{host}: {prefix} over both leaves (now: {found})", set(found) == {"eth0", "eth1"}

    # What happens to them.

    def _pairs(self) -> list[Pair]:
        """Pings over the fabric, in both directions: from the client, from block to block, and to the exception."""
        names = [("client", pod) for pods in PODS.values() for pod in pods]
        names += [("pod11", "pod21"), ("pod22", "pod12"), ("pod13", "pod29"), ("pod29", "pod11")]
        nodes = self.lab.topology.nodes
        return [Pair(self.lab.namespaces[source], nodes[target].addresses[0]) for source, target in names]

    def _traffic(self, check: str, action: Callable[[list[str]], object], *, may_break: Collection[str] = ()) -> None:
        """Pings and TCP flows while `action` runs: no ping may be lost, and only flows of `may_break` may break."""
        self._headline(check)
        with self._checked(check) as detail:
            traffic = ServiceTraffic(self.lab.namespaces["client"], SERVICE, PORT, flows=FLOWS)
            try:
                with self.pings(detail, pairs=self._pairs(), limit_ms=0):
                    action(detail)
            finally:
                flows = traffic.stop()
                detail.append(summary(flows))
                self.lab.progress(detail[-1])
            hold_to(flows, may_break=may_break)

    def _costs_nothing(self, check: str, happens: Callable[[], object], *, wait: bool = True) -> None:
        def act(detail: list[str]) -> None:
            happens()
            time.sleep(AFTER_S if wait else DOWN_S)
            if wait:
                await_all(self.lab, self.expected)

        self._traffic(check, act)

    def _backend_fails(self) -> None:
        """A backend's server ends: its flows break, no other; new ones go elsewhere. Then it comes back."""

        def fail(detail: list[str]) -> None:
            self.lab.programs[FAILING].kill()
            taken_s = wait_until(lambda: not self._healthy(FAILING), 10, f"{FAILING} to be found unhealthy")
            time.sleep(AFTER_S)
            detail.append(f"seen after {1000 * taken_s:.0f} ms")
            fresh = self._fresh_flows()
            if any(flow.backend == FAILING or flow.error for flow in fresh):
                raise LabError(f"new flows: {summary(fresh)}")
            detail.append(f"new {summary(fresh)}")

        def recover(detail: list[str]) -> None:
            self.lab.start_program(FAILING)
            wait_until(lambda: self._healthy(FAILING), 10, f"{FAILING} to be found healthy")
            time.sleep(AFTER_S)

        self._traffic(f"backend {FAILING} fails", fail, may_break=[FAILING])
        self._traffic(f"backend {FAILING} is back", recover)

    def _fresh_flows(self) -> list[ServiceFlow]:
        return ServiceTraffic(self.lab.namespaces["client"], SERVICE, PORT, flows=FLOWS).stop()

    def _healthy(self, backend: str) -> bool:
        views = self.lab.bgpd["host1"].show("services")
        return any(b["id"] == backend and b["state"] == "healthy" for view in views for b in view["backends"])

    def _aggregate_changes(self) -> None:
        """host1's block is announced by a wider prefix, then pod by pod, then as before."""
        config = self.lab.topology.nodes["host1"].bgpd_config
        assert config is not None
        text = config.read_text()
        pods = [address for address, _ in PODS["host1"].values()]
        stages = {
            WIDER: (text.replace(AGGREGATE, WIDER), [WIDER]),
            "single pods": (text.replace(AGGREGATE, "10.64.99.0/26"), pods),
            AGGREGATE: (text, [AGGREGATE]),
        }

        def change(detail: list[str]) -> None:
            for name, (config_text, announced) in stages.items():
                self.lab.bgpd["host1"].write_config(config_text)
                self.lab.bgpd["host1"].cli("reload")
                taken_s = await_all(self.lab, lambda: list(self._leaf_routes(self._announced(announced))))  # noqa: B023
                detail.append(f"{name} after {1000 * taken_s:.0f} ms")
                time.sleep(1.0)

        self._traffic(f"aggregate {AGGREGATE} becomes {', then '.join(stages)}", change)
