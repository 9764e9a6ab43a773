"""A server under a real systemd with three leaves beside it, and what the leaves themselves say of its sessions.

machine eth0 10.0.1.1 - leaf1 (FRR) swp1, with MD5 and BFD; machine eth1 - leaf1 swp2, unnumbered
machine eth2 10.0.2.1 - leaf2 (BIRD) swp1, which announces many routes; machine eth3 10.0.3.1 - leaf3 (GoBGP) swp1
machine pod1 - pod; leaf1 has 10.9.0.1, where the pod's traffic goes to and comes from.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from labs.daemons import Bird, Frr, Gobgp
from labs.gobgp_config import GOBGP_KEPT, gobgp_graceful, gobgp_neighbor, gobgp_router
from labs.machine import Machine
from labs.namespace import Namespace, link
from labs.process import LabError, wait_until
from labs.traffic import FlowResult, Pair, flowing
from tests.installed.test_unit import Unit, install

SECRET = "a secret of both"
CONFIG = """
[router]
asn = 65203
router_id = "10.255.1.1"
hostname = "host1"

[[neighbor]]
name = "frr"
address = "10.0.1.2"
asn = 65201
import = "all"
password_file = "/etc/bgpd/frr.key"
graceful_restart = { restart_time_s = 120 }
bfd = { interval_ms = 100 }
max_prefixes = 2000000

[[neighbor]]
name = "unnumbered"
interface = "eth1"
asn = "external"
import = "all"
graceful_restart = { restart_time_s = 120 }

[[neighbor]]
name = "bird"
address = "10.0.2.2"
asn = 65202
import = "all"
graceful_restart = { restart_time_s = 120 }
max_prefixes = 2000000

[[neighbor]]
name = "gobgp"
address = "10.0.3.2"
asn = 65204
import = "all"
graceful_restart = { restart_time_s = 120 }

[[workload.static]]
prefix = "10.64.1.5/32"
interface = "pod1"

[workload.api]
"""
FRR = f"""
bfd
 exit
router bgp 65201
 bgp router-id 10.255.0.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 bgp graceful-restart stalepath-time 120
 neighbor 10.0.1.1 remote-as 65203
 neighbor 10.0.1.1 password {SECRET.replace(" ", "-")}
 neighbor 10.0.1.1 timers 10 30
 neighbor 10.0.1.1 timers connect 1
 neighbor 10.0.1.1 bfd 3 100 100
 neighbor swp2 interface remote-as external
 neighbor swp2 timers 10 30
 neighbor swp2 timers connect 1
 address-family ipv4 unicast
  network 10.9.0.0/16
  neighbor 10.0.1.1 activate
  neighbor swp2 activate
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:9::/48
  neighbor 10.0.1.1 activate
  neighbor swp2 activate
 exit-address-family
exit
"""
GOBGP = gobgp_router(65204, "10.255.0.3") + gobgp_neighbor(
    "10.0.3.1",
    65203,
    gobgp_graceful(120),
    families={"ipv4-unicast": GOBGP_KEPT},
    idle_hold_time_after_reset=1,
    hold_time=30,
    keepalive_interval=10,
)


def bird_config(routes: int, churned: int) -> str:
    """`routes` that stay, and `churned` ones of a protocol that is switched off and on."""
    stay = "\n".join(f"  route 11.{n >> 16}.{n >> 8 & 255}.{n & 255}/32 unreachable;" for n in range(routes))
    churn = "\n".join(f"  route 12.0.{n >> 8 & 255}.{n & 255}/32 unreachable;" for n in range(churned))
    return f"""
router id 10.255.0.2;
protocol device {{ }}
protocol static stay {{ ipv4;
{stay}
}}
protocol static churn {{ ipv4;
{churn}
}}
protocol bgp host {{
  local as 65202;
  neighbor 10.0.2.1 as 65203;
  hold time 30;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 4;
  graceful restart on;
  graceful restart time 120;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
"""


class Seen:
    """What the leaves say of their sessions with the server: none of it may change when it hands over."""

    def __init__(self, rig: Rig) -> None:
        self.frr = rig.frr.sessions()
        self.bfd = [(one["status"], one["id"]) for one in rig.frr.vtysh_json("show bfd peers json")]
        self.bfd_downs = sum(one["session-down"] for one in rig.frr.vtysh_json("show bfd peers counters json"))
        self.bird = self._of_bird(rig.bird.birdc("show protocols all host"))
        self.gobgp = self._of_gobgp(rig.gobgp.json("neighbor", "10.0.3.1"))

    @staticmethod
    def _of_bird(text: str) -> dict[str, str]:
        since = re.search(r"^host\s+BGP\s+\S+\s+up\s+(\S+(?: \S+)?)\s+Established", text, re.MULTILINE)
        updates = re.search(r"Import updates:\s+(\d+)", text)
        withdraws = re.search(r"Import withdraws:\s+(\d+)", text)
        return {
            "since": since[1] if since else text,
            "updates": updates[1] if updates else "",
            "withdraws": withdraws[1] if withdraws else "",
        }

    @staticmethod
    def _of_gobgp(view: Any) -> dict[str, Any]:
        state = view[0]["state"] if isinstance(view, list) else view["state"]
        timers = (view[0] if isinstance(view, list) else view)["timers"]["state"]
        received = state["messages"]["received"]
        return {
            "state": state.get("session_state"),
            "since": timers.get("uptime", {}).get("seconds"),
            "messages": {name: received.get(name, 0) for name in ("open", "notification", "update")},
        }

    def sessions(self) -> dict[str, Any]:
        """What stays as it is also while routes change."""
        frr = {name: {key: one[key] for key in one if key != "updates"} for name, one in self.frr.items()}
        gobgp = {**self.gobgp, "messages": {**self.gobgp["messages"], "update": None}}
        return {"frr": frr, "bfd": self.bfd, "downs": self.bfd_downs, "bird": self.bird["since"], "gobgp": gobgp}

    def all(self) -> dict[str, Any]:
        """That, and how many UPDATEs there were: what stays while nothing changes."""
        updates = {name: one["updates"] for name, one in self.frr.items()}
        return {**self.sessions(), "updates": updates, "bird": self.bird, "gobgp": self.gobgp}


class Rig:
    """All of it, running; `pids` are those of the server's daemon, one after the other."""

    def __init__(self, machine: Machine, pod: Namespace, leaf1: Namespace, directory: Path) -> None:
        self.machine = machine
        self.unit = Unit(machine)
        self.pod = pod
        self.leaf1 = leaf1
        self.directory = directory
        self.frr: Frr
        self.bird: Bird
        self.gobgp: Gobgp

    def established(self) -> list[str]:
        try:
            return sorted(view["name"] for view in self.unit.show("neighbors") if view["state"] == "established")
        except LabError:
            return []

    def wait_established(self) -> None:
        self.unit.wait(lambda: len(self.established()) == 4, "all four to be established")

    def is_quiet(self) -> bool:
        """Whether nothing changes for a while: a leaf sends routes up to a second after its session has begun."""
        before = Seen(self).all()
        time.sleep(1.2)
        return Seen(self).all() == before

    def received(self) -> int:
        """How many routes the server has of BIRD."""
        views = {view["name"]: view for view in self.unit.show("neighbors")}
        return int(views["bird"]["families"]["ipv4-unicast"]["received"])

    def in_kernel(self) -> int:
        """How many routes the server's kernel has of bgpd."""
        return int(self.machine.run("sh", "-c", "ip -4 route show proto bgpd | wc -l"))

    def keep_logs(self, directory: Path) -> None:
        """Have what was logged of all, from the boot on, in a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, words in {
            "journal": ("journalctl", "--no-pager", "--output=short-precise"),
            "bgpd": ("journalctl", "--no-pager", "--output=short-precise", "--unit=bgpd"),
            "unit": ("systemctl", "show", "bgpd"),
            "status": ("/usr/local/bin/bgpd", "status", "--json"),
        }.items():
            (directory / f"{name}.log").write_text(self.machine.run(*words, check=False))
        (directory / "frr.json").write_text(json.dumps(self.frr.vtysh_json("show bgp neighbors json"), indent=1))
        (directory / "bird.log").write_text(self.bird.birdc("show protocols all host"))
        for daemon in (self.frr, self.bird, self.gobgp):
            for log in daemon.logs:
                (directory / f"{daemon.kind}-{log.name}").write_bytes(log.read_bytes())

    def restart(self) -> None:
        self.machine.run("systemctl", "restart", "bgpd", timeout_s=120)

    def status(self) -> dict[str, Any]:
        """The server's HealthView."""
        found: dict[str, Any] = json.loads(self.machine.run("/usr/local/bin/bgpd", "status", "--json", check=False))
        return found

    def flows(self) -> AbstractContextManager[list[FlowResult]]:
        """A thousand packets a second each way, from pod to fabric and back; what they lost, at the end."""
        pairs = (Pair(self.pod, "10.9.0.1"), Pair(self.leaf1, "10.64.1.5"))
        return flowing(pairs, self.directory, interval_s=0.001)

    @contextmanager
    def churn(self) -> Iterator[None]:
        """Routes of all three leaves and of the server itself come and go."""
        end = threading.Event()
        errors: list[BaseException] = []

        def again(step: Callable[[int], None]) -> None:
            turn = 0
            while not end.wait(0.05):
                turn += 1
                try:
                    step(turn)
                except LabError as error:
                    if "bgpd" not in str(error):  # the server's API, in the middle of a hand-over
                        errors.append(error)

        threads = [
            threading.Thread(target=again, args=(step,))
            for step in (self._churn_frr, self._churn_bird, self._churn_gobgp, self._churn_server)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            end.set()
            for thread in threads:
                thread.join()
        assert not errors, errors

    def _churn_frr(self, turn: int) -> None:
        words = [f"{'no ' if turn % 2 == 0 else ''}network 10.10.{n}.0/24" for n in range(20)]
        self.frr.vtysh("configure terminal", "router bgp 65201", "address-family ipv4 unicast", *words)

    def _churn_bird(self, turn: int) -> None:
        self.bird.birdc("enable churn" if turn % 2 == 0 else "disable churn")

    def _churn_gobgp(self, turn: int) -> None:
        action = ("add", "del")[turn % 2 == 0]
        hop = ["nexthop", "10.0.3.2"] if action == "add" else []
        self.gobgp.run("global", "rib", action, "13.0.0.0/24", *hop)

    def _churn_server(self, turn: int) -> None:
        action = ["add", "vm", "--address", "10.64.2.1/32", "--interface", "pod1", "--timeout", "0"]
        if turn % 2 == 0:
            action = ["del", "vm"]
        self.machine.run("/usr/local/bin/bgpd", "workload", *action, check=False)


@contextmanager
def rig(directory: Path, *, routes: int, churned: int = 200) -> Iterator[Rig]:
    """Boots and wires it. Raises: LabError: no systemd can be booted here."""
    with ExitStack() as stack:
        network, leaf1, leaf2, leaf3, pod = (
            stack.enter_context(Namespace(label, prefix="H")) for label in ("machine", "leaf1", "leaf2", "leaf3", "pod")
        )
        link(network, "eth0", leaf1, "swp1")
        link(network, "eth1", leaf1, "swp2")
        link(network, "eth2", leaf2, "swp1")
        link(network, "eth3", leaf3, "swp1")
        link(network, "pod1", pod, "eth0")
        for number, leaf in enumerate((leaf1, leaf2, leaf3), 1):
            network.addresses(("eth0", "eth2", "eth3")[number - 1], f"10.0.{number}.1/24")
            leaf.addresses("swp1", f"10.0.{number}.2/24")
        leaf1.addresses("lo", "10.9.0.1/32")
        pod.addresses("eth0", "10.64.1.5/32")
        network.addresses("pod1", "169.254.1.1/32")
        pod.batch("route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0")
        machine = stack.enter_context(Machine(network))
        install(machine)
        machine.write("/etc/bgpd/frr.key", SECRET.replace(" ", "-") + "\n")
        machine.write("/etc/bgpd/bgpd.toml", CONFIG)
        made = Rig(machine, pod, leaf1, directory)
        made.frr = stack.enter_context(Frr(leaf1, FRR, bfd=True))
        made.bird = stack.enter_context(Bird(leaf2, bird_config(routes, churned)))
        made.gobgp = stack.enter_context(Gobgp(leaf3, GOBGP))
        made.gobgp.run("global", "rib", "add", "10.13.0.0/16", "nexthop", "10.0.3.2")
        machine.run("systemctl", "start", "bgpd-bfd", "bgpd", timeout_s=120)
        made.wait_established()
        wait_until(lambda: made.received() == routes + churned, 120, "all routes of BIRD")
        wait_until(lambda: made.in_kernel() >= routes + churned, 120, "all routes in the kernel")
        wait_until(lambda: "10.64.1.5" in leaf1.ip("route", "show"), 30, "the leaf's kernel to have the pod")
        wait_until(lambda: all(view["state"] == "up" for view in made.unit.show("bfd")), 30, "BFD to be Up")
        yield made
