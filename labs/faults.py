"""What an operator's year costs under counted packets: faults, restarts, maintenance, changes, one after the other.

Every event says what it may cost at most; one that costs more fails the run. What was counted is kept for
docs/event-costs.md (event_costs.py).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from labs.checks import Expectation, await_all, pod_routes, sessions
from labs.event_costs import EventCost
from labs.experiments import OUTAGE_LIMIT_MS, Experiments
from labs.process import LabError
from labs.traffic import Pair

SERVICE, VM = "10.64.100.1", "10.64.9.1"
SOURCES = [f"198.51.100.{last}" for last in range(10, 26)]
"""The server's addresses: a flow to the service from each, so that both hosts have some."""
WORKLOADS = {
    "host1": {"pod11": ("pod", "10.64.1.1", "2001:db8:64:1::1"), "web1": ("web", "10.64.1.2"), "vm": ("vm", VM)},
    "host2": {"pod21": ("pod", "10.64.2.1", "2001:db8:64:2::1"), "web2": ("web", "10.64.2.2")},
}
"""By host: the interface and the addresses of each workload."""
BACKENDS = {"host1": "web1", "host2": "web2"}
LEAF, OTHER_LEAF, HOST, OTHER_HOST = "leaf1", "leaf2", "host1", "host2"
LEAF_ASN = 65201
AWAY_S = 15.0
"""Longer than the leaf's hold time (9 s) and Restart Time (10 s)."""
FRR_COST, FRR_COST_MS = "what FRR lets fall of its own kernel routes, for a second or so", 3500.0
"""Less than the hosts' routes would be gone for without graceful restart, and without long-lived one."""
QUIET_PACKETS_PER_S = 20.0
"""What may pass where no traffic should: sessions, neighbor discovery."""
QUIET_FOR_S = 2.0
CLOCK_S = 2
"""FRR computes since when a session stands each time anew, in seconds."""
NOTHING, MOVE = "nothing", "until the fabric has moved"
"""What an event may cost."""
RESTART_S = 1.0
"""RestartSec of bgpd.service."""
BACK_MS = 10_000.0
"""Until sessions are back that both leaves have ended, on a machine that has much else to do."""
UPGRADE_S = 150.0
"""How long that may take on a machine that has much else to do; it costs no packet."""
BOTH_S = 1.0
"""How long both hosts have a VM that moves."""
POLICY = """
[policy.tagged]
rules = [{ set = { add_community = ["65203:1"] }, action = "accept" }]
"""


class Faults(Experiments):
    """For `faults.clab.yml`."""

    _has_bfd = True
    """Whether the switches have it now."""

    def bring_up(self) -> None:
        """Tell the hosts what they have, then wait until the fabric has it."""
        self._headline("the hosts are told their pods, the VM and the service")
        with self._checked("workloads and service told") as detail:
            for host, workloads in WORKLOADS.items():
                for name, (interface, *addresses) in workloads.items():
                    self._add(host, name, interface, *addresses)
                self._add_service(host)
            detail.append(f"{sum(map(len, WORKLOADS.values()))} workloads, and one service on both hosts")
        self.converge("convergence")
        if self.outcomes[-1].passed:
            self.reach("reachability")

    def expected(self) -> Iterable[Expectation]:
        """Sessions, BFD, pods over both leaves; in each leaf's BGP the service by both hosts, and the VM by one."""
        return [*sessions(self.lab), *self._bfd(), *pod_routes(self.lab), *self._leaf_routes()]

    def steps(self) -> None:
        """The events, in the order of an operator's fears."""
        self.costs: list[EventCost] = []
        self._leaf_faults()
        self._leaf_restarts()
        self._host_faults()
        self._maintenance()
        self._changes()
        self._link_faults()
        self.reach("reachability afterwards")

    def commands(self, host: str) -> list[list[str]]:
        """The tables, and the path of the service address."""
        return [*(["show", view] for view in ("neighbors", "bfd", "services", "workloads")), ["explain", SERVICE]]

    # What there is.

    def _add(self, host: str, name: str, interface: str, *addresses: str) -> None:
        words = [word for address in addresses for word in ("--address", address)]
        self.lab.bgpd[host].cli("workload", "add", name, *words, "--interface", interface)

    def _add_service(self, host: str) -> None:
        backend = BACKENDS[host]
        payload = {"addresses": [SERVICE], "backends": [{"id": backend, "addresses": [WORKLOADS[host][backend][1]]}]}
        file = self.lab.bgpd[host].directory / "service.json"
        file.write_text(json.dumps(payload))
        self.lab.bgpd[host].cli("service", "add", "web", str(file))

    def _bfd(self) -> Iterator[Expectation]:
        for host, daemon in self.lab.bgpd.items() if self._has_bfd else ():
            for view in daemon.show("bfd"):
                yield f"BFD {host} - {view['neighbor']}", view["state"] == "up"

    def _leaf_routes(self) -> Iterator[Expectation]:
        """As the leaf's BGP has them: FRR 8.4 does not put back all that its kernel lost with a link."""
        for leaf, frr in self.lab.frr.items():
            if self.lab.topology.nodes[leaf].role == "leaf":
                for address, hosts in ((SERVICE, 2), (VM, 1)):
                    paths = frr.vtysh_json(f"show bgp ipv4 unicast {address}/32 json").get("paths", [])
                    found = sum(path.get("multipath") or path["bestpath"].get("overall", False) for path in paths)
                    yield f"{leaf}: {address} by {hosts} hosts (now: {found})", found == hosts

    def flows(self) -> list[Pair]:
        """Pings between pods and the server across the fabric, to the VM, and to the service from many addresses."""
        namespaces = self.lab.namespaces
        to_vm = [Pair(namespaces[name], VM) for name in ("server", "pod21")]
        to_service = [Pair(namespaces["server"], SERVICE, source) for source in SOURCES]
        return [*self.across(), *to_vm, *to_service]

    # What happens.

    def event(
        self,
        what: str,
        action: Callable[[], object],
        *,
        may_cost: str = NOTHING,
        limit_ms: float = OUTAGE_LIMIT_MS,
        converge: bool = True,
    ) -> None:
        """One event under traffic, and where all is to be as before afterwards, until it is."""
        limit, before = 0.0 if may_cost == NOTHING else limit_ms, self._bfd_failures()
        self.under_traffic(what, action, pairs=self.flows(), limit_ms=limit, converge=converge)
        outcome = self.outcomes[-1]
        after = self._bfd_failures()
        failed = [name for name, count in after.items() if count > before.get(name, count)]
        if failed:
            detail = f"{outcome.detail}; BFD went down meanwhile: {', '.join(failed)}"
            self.lab.progress(detail)
            outcome = self.outcomes[-1] = msgspec.structs.replace(outcome, detail=detail)
        self.costs.append(
            EventCost.of(what, self.counted, may_cost=may_cost, passed=outcome.passed, detail=outcome.detail)
        )

    def _bfd_failures(self) -> dict[str, int]:
        """How often BFD of each host has gone down. Where nothing was done to it, this machine was too slow for what
        plays the switches, and what that costs is no event's."""
        found: dict[str, int] = {}
        for host, daemon in self.lab.bgpd.items():
            with contextlib.suppress(LabError):  # the daemon is not there
                found |= {f"{host} - {view['neighbor']}": view["downs"] for view in daemon.show("bfd")}
        return found

    def _leaf_faults(self) -> None:
        frr, lab = self.lab.frr[LEAF], self.lab
        self.event(
            f"{LEAF} dies silently, its links stay up (BFD, 100 ms x 3)",
            lambda: lab.silence(LEAF),
            may_cost=f"the detection time (300 ms), and {MOVE}",
            converge=False,
        )
        self.event(f"{LEAF} lives again", lambda: lab.unsilence(LEAF), may_cost="what the leaf forwards too early")
        self.event(f"TCP reset of the session {LEAF} - {HOST}", self._reset_tcp, may_cost=MOVE)
        self.event(f"{LEAF} ends the session (Cease)", lambda: frr.vtysh("clear bgp 10.0.11.1"), may_cost=MOVE)

    def _leaf_restarts(self) -> None:
        """Graceful restart of the leaves: the hosts keep all routes, and what is lost is lost by FRR 8.4.

        It takes its own routes out of its kernel at its first End-of-RIB, and puts them back as it hears them.
        It also begins its BFD anew when a session is established, which ends that; without BFD nothing does.
        """
        one, both = (LEAF,), (LEAF, OTHER_LEAF)
        self.event(
            f"{LEAF}'s BGP daemon crashes, and is started a second later; its BFD begins anew, too",
            lambda: self._restart_leaves(one, RESTART_S),
            may_cost=f"{FRR_COST}; {MOVE}",
            limit_ms=FRR_COST_MS,
        )
        self._set_bfd(on=False)
        self.event(
            "both leaves' BGP daemons crash, and are started a second later (helper; no BFD)",
            lambda: self._restart_leaves(both, RESTART_S),
            may_cost=FRR_COST,
            limit_ms=FRR_COST_MS,
        )
        self.event(
            f"both leaves' BGP daemons are away for {AWAY_S:.0f} s (long-lived; no BFD)",
            lambda: self._restart_leaves(both, AWAY_S),
            may_cost=FRR_COST,
            limit_ms=FRR_COST_MS,
        )
        self._set_bfd(on=True)

    def _restart_leaves(self, leaves: tuple[str, ...], away_s: float) -> None:
        for leaf in leaves:
            self.lab.frr[leaf].kill()
        time.sleep(away_s)
        for leaf in leaves:
            self.lab.frr[leaf].restart_bgpd(self._without_bfd(leaf))

    def _without_bfd(self, switch: str) -> str:
        """A switch's configuration as it is to be now."""
        path = self.lab.topology.nodes[switch].frr_config
        assert path is not None
        lines = path.read_text().splitlines()
        return "".join(f"{line}\n" for line in lines if self._has_bfd or " bfd " not in line)

    def _set_bfd(self, *, on: bool) -> None:
        """BFD of the switches with all their neighbors; they take it down before the hosts would miss it."""
        self._has_bfd = on
        for switch, frr in self.lab.frr.items():
            path = self.lab.topology.nodes[switch].frr_config
            assert path is not None
            lines = path.read_text().splitlines()
            (router,) = (line for line in lines if line.startswith("router bgp"))
            wanted = [line.strip() for line in lines if " bfd " in line]
            words = wanted if on else [f"no {line.partition(' bfd ')[0]} bfd" for line in wanted]
            frr.vtysh("configure terminal", router, *words)
        await_all(self.lab, self.expected)

    def _reset_tcp(self) -> None:
        self.lab.namespaces[LEAF].run("ss", "-K", "-tn", "dst", "10.0.11.1")

    def _link_faults(self) -> None:
        lab = self.lab
        self.event(
            f"link {LEAF} - {HOST} goes down", lambda: lab.set_link(LEAF, HOST, "down"), may_cost=MOVE, converge=False
        )
        self.event(f"link {LEAF} - {HOST} comes up", lambda: lab.set_link(LEAF, HOST, "up"), may_cost=MOVE)

    def _upgrade(self) -> None:
        """The leaves' word counts: since when their sessions stand, and how many they had."""
        before = self._sessions()
        upgrade = partial(self.lab.bgpd[HOST].cli, "upgrade", "--timeout", "2m", timeout_s=UPGRADE_S)
        self.event("bgpd upgrade: becomes the installed version", upgrade)
        with self._checked("upgrade: the leaves say that their sessions went on") as detail:
            after = self._sessions()
            for leaf, (began, count, uptime_s) in after.items():
                detail.append(f"{leaf}: up for {before[leaf][2]} s before, {uptime_s} s after")
                if abs(began - before[leaf][0]) > CLOCK_S or count != before[leaf][1]:
                    raise LabError(f"{detail[-1]}, {before[leaf][1]} sessions before, {count} after")

    def _sessions(self) -> dict[str, tuple[int, int, int]]:
        """As each leaf has it: since when (Unix time), how many there were, and for how many seconds it stands."""
        found = {}
        for leaf in (LEAF, OTHER_LEAF):
            address = next(
                peer for peer in self.lab.frr[leaf].configured() if peer.startswith(("10.0.11.", "10.0.12."))
            )
            view = self.lab.frr[leaf].vtysh_json(f"show bgp neighbors {address} json")[address]
            began = int(view["bgpTimerUpEstablishedEpoch"])
            found[leaf] = began, int(view["connectionsEstablished"]), int(view["bgpTimerUpMsec"]) // 1000
        return found

    def _host_faults(self) -> None:
        daemon, bfd = self.lab.bgpd[HOST], self.lab.bfd[HOST]

        def restart() -> None:
            daemon.terminate()
            daemon.start()

        def crash() -> None:
            daemon.kill()
            time.sleep(RESTART_S)
            daemon.start()

        self._upgrade()
        self.event("bgpd is restarted (SIGTERM and a start, as systemctl restart does)", restart)
        self.event("bgpd crashes (SIGKILL), and is started a second later", crash)
        self.event("bgpd-bfd becomes its next version (SIGHUP, systemctl reload)", bfd.reload)

        def crash_bfd() -> None:
            bfd.kill()
            time.sleep(RESTART_S)
            bfd.start()

        both = "until the sessions are back: to both leaves the host was dead"
        self.event("bgpd-bfd crashes (SIGKILL), is started a second later", crash_bfd, may_cost=both, limit_ms=BACK_MS)

    def _maintenance(self) -> None:
        host = self.lab.bgpd[HOST]
        said = "drain: its service's traffic goes to the other host"
        self.event(f"bgpd drain on --wait ({HOST})", lambda: host.cli("drain", "on", "--wait"), converge=False)
        self._must_be_quiet(said, HOST, "web")
        self.event(f"bgpd drain off ({HOST})", lambda: host.cli("drain", "off"))
        self.event(f"{LEAF} in maintenance (GRACEFUL_SHUTDOWN)", lambda: self._maintain(LEAF), converge=False)
        self._must_be_quiet(f"maintenance: {LEAF} forwards nothing", LEAF, "eth1")
        self.event(f"{LEAF} back from maintenance", lambda: self._maintain(LEAF, "no "))

    def _maintain(self, leaf: str, no: str = "") -> None:
        words = ("configure terminal", f"router bgp {LEAF_ASN}", f"{no}bgp graceful-shutdown")
        self.lab.frr[leaf].vtysh(*words)

    def _must_be_quiet(self, check: str, node: str, interface: str) -> None:
        """Nothing but what is always there leaves by an interface, while the flows run."""
        with self._checked(check) as detail, self.pings([], pairs=self.flows(), limit_ms=0):
            path = f"/sys/class/net/{interface}/statistics/tx_packets"
            count = [int(self.lab.namespaces[node].run("cat", path))]
            time.sleep(QUIET_FOR_S)
            count.append(int(self.lab.namespaces[node].run("cat", path)))
            rate = (count[1] - count[0]) / QUIET_FOR_S
            detail.append(f"{rate:.0f} packets/s leave {node} by {interface}")
            if rate > QUIET_PACKETS_PER_S:
                raise LabError(f"{detail[-1]}, more than {QUIET_PACKETS_PER_S:.0f}")

    def _changes(self) -> None:
        self.event("reload with another import policy", self._change_policy)
        self.event("a workload is added, and removed again", self._add_and_remove)
        self.event("a VM moves, and the new host has it before the old one drops it", self._move_vm, may_cost=MOVE)
        silence = f"its silence (two commands), and {MOVE}"
        self.event(
            "a VM moves, and the old host drops it first", self._move_vm_back, may_cost=silence, limit_ms=BACK_MS
        )

    def _change_policy(self) -> None:
        daemon = self.lab.bgpd[HOST]
        before = daemon.config_path.read_text()
        daemon.write_config(before.replace('import = "all"', 'import = "tagged"') + POLICY)
        daemon.cli("reload")
        time.sleep(1.0)
        daemon.write_config(before)
        daemon.cli("reload")

    def _add_and_remove(self) -> None:
        self._add(HOST, "other", "pod", "10.64.1.77")
        time.sleep(1.0)
        self.lab.bgpd[HOST].cli("workload", "del", "other")

    def _move_vm(self) -> None:
        """Both hosts have it for a moment, and it answers on both of its interfaces."""
        self._add(OTHER_HOST, "vm", "vm", VM)
        self._attach_vm("eth1")
        time.sleep(BOTH_S)
        self.lab.bgpd[HOST].cli("workload", "del", "vm")

    def _move_vm_back(self) -> None:
        self.lab.bgpd[OTHER_HOST].cli("workload", "del", "vm")
        self._attach_vm("eth0")
        self._add(HOST, "vm", "vm", VM)

    def _attach_vm(self, interface: str) -> None:
        """From now on it sends by this interface."""
        self.lab.namespaces["vm"].batch(
            f"route replace 169.254.1.1/32 dev {interface} scope link",
            f"route replace default via 169.254.1.1 dev {interface}",
        )
