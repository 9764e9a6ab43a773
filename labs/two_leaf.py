"""The main job, shown and checked: convergence, reachability, a cut link and a dead leaf under traffic."""

from __future__ import annotations

from collections.abc import Iterable

from labs.checks import Expectation, pod_routes, sessions
from labs.experiments import OUTAGE_LIMIT_MS, Experiments


class TwoLeaf(Experiments):
    """For `two-leaf.clab.yml`."""

    def bring_up(self) -> None:
        """Wait for every session and route, then ping between all workloads."""
        self.converge("convergence")
        if self.outcomes[-1].passed:
            self.reach("reachability")

    def expected(self) -> Iterable[Expectation]:
        """All sessions, and all pods over all uplinks."""
        return [*sessions(self.lab), *pod_routes(self.lab)]

    def steps(self) -> None:
        """Cut a link, then kill a leaf."""
        leaves = self.lab.topology.with_role("leaf")
        host = self.lab.topology.with_role("host")[0].name
        self.cut_link(leaves[0].name, host)
        self.kill_leaf(leaves[-1].name)
        self.reach("reachability afterwards")

    def commands(self, host: str) -> list[list[str]]:
        """The tables, and the whole path of a remote pod."""
        pods = self.lab.topology.with_role("pod")
        attached = {node.name for node in self.lab.topology.neighbors(host)}
        remote = next(pod for pod in pods if pod.name not in attached)
        return [*super().commands(host), ["explain", remote.addresses[0]]]

    def cut_link(self, leaf: str, host: str) -> None:
        """Take the leaf's end of a link down under traffic, then bring it up again."""
        link = f"link {leaf} - {host}"
        pairs = self.across()
        down, up = (lambda: self.lab.set_link(leaf, host, "down")), (lambda: self.lab.set_link(leaf, host, "up"))
        self.under_traffic(f"{link} cut", down, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS)
        self.under_traffic(f"{link} restored", up, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS, converge=True)

    def kill_leaf(self, leaf: str) -> None:
        """Kill the leaf's BGP daemon under traffic, then start it again."""
        frr = self.lab.frr[leaf]
        pairs = self.across()
        name = f"{leaf}: BGP daemon"
        self.under_traffic(f"{name} killed", frr.kill, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS)
        self.under_traffic(f"{name} restarted", frr.restart_bgpd, pairs=pairs, limit_ms=OUTAGE_LIMIT_MS, converge=True)
