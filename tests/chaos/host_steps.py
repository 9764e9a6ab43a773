"""What happens to the host itself: its daemon, its configuration, and its kernel by other hands."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

from labs.process import LabError
from tests.chaos.model import EXTRA, FOREIGN
from tests.chaos.network import FOREIGN_NEXTHOP, FOREIGN_PROTOCOL
from tests.chaos.world import World
from tests.daemon.fabric import kernel_routes

OUR_METRIC = 17
LONGEST_FREEZE_S = 2.0
LONGEST_HAND_OVER_S = 1.5
VIEWS = (
    "routes",
    "fib",
    "workloads",
    "neighbors",
    "overview",
    "explain/10.30.0.1",
    "explain/10.64.0.1",
    "bfd",
    "evpn",
    "vrfs",
)


class HostSteps:
    """Each step is a method; what it does is chosen by `world.chance`, and by the model."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._network = world.network
        self._model = world.model

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.restart_daemon,
            self.upgrade_daemon,
            self.interrupt_hand_over,
            self.damage_hand_over,
            self.kill_daemon,
            self.freeze_daemon,
            self.change_policy,
            self.change_workload_of_the_configuration,
            self.change_hold_time,
            self.remove_or_add_neighbor,
            self.reload_nothing,
            self.reload_nonsense,
            self.drain,
            self.delete_routes,
            self.flush_routes,
            self.delete_nexthop,
            self.replace_nexthop,
            self.change_foreign_routes,
            self.flap_pod_interface,
            self.reload_bfd,
            self.kill_bfd,
            self.ask_everything,
        ]

    # The daemon.

    def restart_daemon(self) -> None:
        self._network.restart_daemon()

    def upgrade_daemon(self) -> None:
        """`bgpd upgrade`: the process executes what is installed."""
        self._network.wait_running()
        born = self._born()
        status, answer = self._network.order("POST", "upgrade", {})
        if status != 202:
            raise LabError(f"the upgrade was refused: {answer}")
        host = self._network.host
        host.wait(lambda: self._born() != born, "the upgraded process to answer", timeout_s=60)

    def _born(self) -> float:
        return float(self._network.host.get("upgrade")["born"])

    def interrupt_hand_over(self) -> None:
        self._network.interrupt_hand_over(LONGEST_HAND_OVER_S * self._world.chance.random())

    def damage_hand_over(self) -> None:
        self._network.damage_hand_over()

    def kill_daemon(self) -> None:
        self._network.kill_daemon()

    def freeze_daemon(self) -> None:
        """SIGSTOP for less than the hold time."""
        pid = self._network.daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(LONGEST_FREEZE_S * self._world.chance.random())
        os.kill(pid, signal.SIGCONT)

    # Its configuration.

    def change_policy(self) -> None:
        self._model.has_policy = not self._model.has_policy
        self._world.detail = f"{self._model.has_policy}"
        self._network.reload()

    def change_workload_of_the_configuration(self) -> None:
        self._model.has_extra = not self._model.has_extra
        self._world.touch(EXTRA)
        self._world.detail = f"{self._model.has_extra}"
        self._network.reload()

    def change_hold_time(self) -> None:
        """Resets the session of leaf3, and no other."""
        self._world.may_hurt(3)
        self._model.hold_time_s = 21 - self._model.hold_time_s
        self._world.detail = f"{self._model.hold_time_s} s"
        self._network.reload()

    def remove_or_add_neighbor(self) -> None:
        self._model.without ^= {4}
        self._world.detail = f"without {self._model.without or 'none'}"
        self._network.reload()

    def reload_nothing(self) -> None:
        self._network.reload()

    def reload_nonsense(self) -> None:
        """A configuration that is refused; nothing changes."""
        path = self._network.host.config_path
        text = path.read_text()
        path.write_text(text.replace("asn = 65202", "asn = -1"))
        status, answer = self._network.order("POST", "reload")
        path.write_text(text)
        if status != 422:
            raise LabError(f"nonsense was answered with {status}: {answer}")

    def drain(self) -> None:
        """Out of service, or back; workloads stay."""
        wanted = not self._model.is_drained
        status, answer = self._network.order(*(("PUT", "drain", {"force": True}) if wanted else ("DELETE", "drain")))
        if status != 200:
            raise LabError(f"drain was refused: {answer}")
        self._model.is_drained = wanted
        self._world.detail = "on" if wanted else "off"

    # Its kernel, by other programs.

    def delete_routes(self) -> None:
        """Some of bgpd's routes."""
        self._world.may_hurt()
        self._world.touch()
        namespace = self._network.host_namespace
        for ipv6 in (False, True):
            routes = sorted(kernel_routes(namespace, ipv6=ipv6))
            for prefix in self._world.chance.sample(routes, min(4, len(routes))):
                family = "-6" if ipv6 else "-4"
                namespace.run("ip", family, "route", "del", prefix, "proto", "217", check=False)

    def flush_routes(self) -> None:
        """All of bgpd's routes of a family."""
        self._world.may_hurt()
        self._world.touch()
        family = self._world.chance.choice(("-4", "-6"))
        self._network.host_namespace.run("ip", family, "route", "flush", "proto", "217", check=False)

    def delete_nexthop(self) -> None:
        self._world.may_hurt()
        for _ in range(self._world.chance.randrange(1, 4)):
            number = self._a_nexthop()
            if number:
                self._network.host_namespace.run("ip", "nexthop", "del", "id", number, check=False)

    def replace_nexthop(self) -> None:
        """One of bgpd's nexthop objects leads nowhere from now on."""
        self._world.may_hurt()
        number = self._a_nexthop()
        if number:
            words = ("id", number, "blackhole", "proto", "217")
            self._network.host_namespace.run("ip", "nexthop", "replace", *words, check=False)

    def _a_nexthop(self) -> str:
        objects = json.loads(self._network.host_namespace.ip("-j", "nexthop", "show") or "[]")
        ours = sorted(entry["id"] for entry in objects if entry["id"] != FOREIGN_NEXTHOP)
        return str(self._world.chance.choice(ours)) if ours else ""

    def change_foreign_routes(self) -> None:
        """Another program's routes of prefixes that leaves announce, some with bgpd's own metric."""
        chance, foreign = self._world.chance, self._model.foreign
        for prefix in chance.sample(FOREIGN, chance.randrange(1, 5)):
            if prefix in foreign:
                self._network.host_namespace.ip("route", "del", prefix, "proto", FOREIGN_PROTOCOL)
                foreign.discard(prefix)
            else:
                metric = str(chance.choice((OUR_METRIC, 20)))
                words = ("blackhole", prefix, "proto", FOREIGN_PROTOCOL, "metric", metric)
                self._add_foreign(*words)
        self._world.detail = f"{len(foreign)} now"

    def _add_foreign(self, *words: str) -> None:
        """Where bgpd's own route has that metric its program replaces it, as `ip route replace` does."""
        self._network.host_namespace.ip("route", "replace", *words)
        self._model.foreign.add(words[1])

    def flap_pod_interface(self) -> None:
        """That of the pods which nobody pings."""
        on_pod2 = (prefix for prefix, interfaces in self._model.own().items() if "pod2" in interfaces)
        self._world.touch(*(prefix.partition("/")[0] for prefix in on_pod2))
        for state in ("down", "up"):
            self._network.host_namespace.ip("link", "set", "pod2", state)
            time.sleep(self._world.chance.random() / 4)

    # Beside it.

    def reload_bfd(self) -> None:
        self._network.bfd.reload()

    def kill_bfd(self) -> None:
        """To both leaves the host is dead, until it is started again at once."""
        self._world.may_hurt()
        self._network.bfd.kill()
        self._network.bfd.start()

    def ask_everything(self) -> None:
        self._network.wait_running()
        for view in VIEWS:
            self._network.host.get(view)
        self._network.host.get("events", limit=200)
