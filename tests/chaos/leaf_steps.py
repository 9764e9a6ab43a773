"""What happens to leaves and to the links to them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

from labs.daemons import Frr
from labs.namespace import Namespace
from tests.chaos.hostile import BURST, hostile_messages
from tests.chaos.model import CHURN, FRR_LEAVES, LEAVES, PINGED, RAW_LEAVES, UNNUMBERED
from tests.chaos.network import link_local
from tests.chaos.raw_leaf import RawLeaf
from tests.chaos.tenant import VRF
from tests.chaos.world import World
from tests.daemon.fabric import announce

MOST_AT_ONCE = 12
SLOW_KBIT = (64, 256, 1000)
"""What a slow link carries; the pings by one take 120 kbit/s."""
QUEUED_MS = (20, 100, 400)
"""How much waits before a slow link; the rest is lost."""
SHORTEST_BURST = "4kb"
"""What passes at once: a whole packet has to."""
CHURNED, CHURN_PAUSE_S = 200, 0.02
"""Routes of a leaf that come and go all the time."""


class LeafSteps:
    """Each step is a method; what it does is chosen by `world.chance`, and by the model."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._network = world.network

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.cut_link,
            self.flap_link,
            self.silence_link,
            self.slow_link,
            self.kill_frr,
            self.freeze_frr,
            self.freeze_bfdd,
            self.clear_frr,
            self.change_routes_of_frr,
            self.drop_raw_leaf,
            self.send_raw_leaf_away,
            self.deafen_raw_leaf,
            self.change_routes_of_raw_leaf,
            self.ask_raw_refresh,
            self.hostile_updates,
            self.burst_of_raw_leaf,
            self.churn_of_raw_leaf,
            self.remove_address,
        ]

    def cut_link(self) -> None:
        """Until it is repaired: the leaf's or the host's own end is set down."""
        number = self._a_leaf(LEAVES)
        interface = f"eth{number - 1}"
        at_host = self._world.chance.random() < 0.5
        namespace = self._network.host_namespace if at_host else self._network.leaves[number]
        name = interface if at_host else "swp1"
        self._world.detail += ", its end" if not at_host else ", the host's end"
        if self._world.has_broken(f"link {number}"):
            return
        namespace.ip("link", "set", name, "down")
        self._world.breaks(f"link {number}", lambda: self._set_up(number))

    def _set_up(self, number: int) -> None:
        self._network.host_namespace.ip("link", "set", f"eth{number - 1}", "up")
        self._network.leaves[number].ip("link", "set", "swp1", "up")

    def flap_link(self) -> None:
        number = self._a_leaf(LEAVES)
        if self._world.has_broken(f"link {number}"):
            return
        namespace = self._network.host_namespace
        for _ in range(self._world.chance.randrange(1, 4)):
            namespace.ip("link", "set", f"eth{number - 1}", "down")
            time.sleep(self._world.chance.random() / 5)
            namespace.ip("link", "set", f"eth{number - 1}", "up")
            time.sleep(self._world.chance.random() / 5)

    def remove_address(self) -> None:
        """Until it is repaired the host has no IPv4 address on a link, or, where the session is by that, no link-local
        one; the session ends, but that of an unnumbered neighbor without the first of them."""
        number = self._a_leaf(LEAVES)
        is_link_local = self._world.chance.random() < 0.5 and number == UNNUMBERED
        self._world.detail += ", link-local" if is_link_local else ""
        if self._world.has_broken(f"address {number}") or self._world.has_broken(f"link {number}"):
            return
        namespace, interface = self._network.host_namespace, f"eth{number - 1}"
        address = f"{link_local(namespace, interface)}/64" if is_link_local else self._network.addresses(number)[0]
        if number == UNNUMBERED and not is_link_local:
            self._world.touch(VRF)  # EVPN has no other next hop there
            self._network.raw[number].heard.unsteady_rounds = 2
        namespace.ip("address", "del", address, "dev", interface)

        def repair() -> None:
            namespace.ip("address", "replace", address, "dev", interface)

        self._world.breaks(f"address {number}", repair)

    def silence_link(self) -> None:
        """Until it is repaired no packet passes, in one direction or both; the link stays up."""
        number = self._a_leaf(LEAVES)
        ends = self._both_ends(number)
        direction = self._world.chance.choice(("to the leaf", "to the host", "both ways"))
        self._world.detail += f", {direction}"
        if self._world.has_broken(f"silence {number}"):
            return
        chosen = {"to the leaf": ends[:1], "to the host": ends[1:], "both ways": ends}[direction]
        self._shape(number, chosen, "pfifo", "limit", "0")

    def slow_link(self) -> None:
        """Until it is repaired a link takes little at once, and loses what is more than fits in its queue."""
        number = self._a_leaf(LEAVES)
        chance = self._world.chance
        rate, patience = f"{chance.choice(SLOW_KBIT)}kbit", f"{chance.choice(QUEUED_MS)}ms"
        self._world.detail += f", {rate}, {patience}"
        if not self._world.has_broken(f"silence {number}"):
            words = ("tbf", "rate", rate, "burst", SHORTEST_BURST, "latency", patience)
            self._shape(number, self._both_ends(number), *words)

    def _both_ends(self, number: int) -> list[tuple[Namespace, str]]:
        return [(self._network.host_namespace, f"eth{number - 1}"), (self._network.leaves[number], "swp1")]

    def _shape(self, number: int, ends: list[tuple[Namespace, str]], *discipline: str) -> None:
        """A queueing discipline on these ends of a link, until that is repaired."""
        for namespace, interface in ends:
            namespace.run("tc", "qdisc", "replace", "dev", interface, "root", *discipline)

        def repair() -> None:
            for namespace, interface in ends:
                namespace.run("tc", "qdisc", "del", "dev", interface, "root")

        self._world.breaks(f"silence {number}", repair)

    # FRR.

    def kill_frr(self) -> None:
        """FRR's bgpd ends, by SIGKILL or SIGTERM, and is started when that is repaired."""
        number, frr = self._an_frr()
        how = self._world.chance.choice((signal.SIGKILL, signal.SIGTERM))
        self._world.detail += f", {how.name}"
        if self._is_lost(number):
            return
        frr.processes[-1].stop(how)
        self._world.breaks(f"frr {number}", lambda: frr.restart_bgpd(self._network.frr_config(number)))

    def freeze_frr(self) -> None:
        """SIGSTOP, for longer than the hold time if it is not repaired before."""
        number, frr = self._an_frr()
        if self._is_lost(number):
            return
        frr.processes[-1].send_signal(signal.SIGSTOP)
        self._world.breaks(f"frr {number}", lambda: frr.processes[-1].send_signal(signal.SIGCONT))

    def freeze_bfdd(self) -> None:
        number, frr = self._an_frr()
        if self._is_lost(number):
            return
        frr.processes[1].send_signal(signal.SIGSTOP)
        self._world.breaks(f"bfdd {number}", lambda: frr.processes[1].send_signal(signal.SIGCONT))

    def clear_frr(self) -> None:
        number, frr = self._an_frr()
        soft = self._world.chance.choice(("", " soft in", " soft out"))
        self._world.detail += soft
        if not self._is_lost(number):
            frr.vtysh(f"clear bgp 10.0.{number}.1{soft}")

    def change_routes_of_frr(self) -> None:
        number = self._a_leaf(FRR_LEAVES, hurts=False)
        if self._is_lost(number):
            return
        added, removed = self._changes(number)
        if removed:
            announce(self._network.frr[number], *removed, withdraw=True)
        if added:
            announce(self._network.frr[number], *added)

    def _an_frr(self) -> tuple[int, Frr]:
        number = self._a_leaf(FRR_LEAVES)
        return number, self._network.frr[number]

    def _is_lost(self, number: int) -> bool:
        """One of its daemons is stopped just now, and vtysh talks to all of them."""
        return self._world.has_broken(f"frr {number}") or self._world.has_broken(f"bfdd {number}")

    # The raw leaves.

    def drop_raw_leaf(self) -> None:
        """Its connection ends without a word; it is back at once, as one that restarted or not."""
        _, raw = self._a_raw_leaf()
        chance = self._world.chance
        raw.graceful, reset, restarted = chance.random() < 0.7, chance.random() < 0.5, chance.random() < 0.7
        self._world.detail += f", graceful {raw.graceful}, reset {reset}, restarted {restarted}"
        raw.drop(reset=reset, restarted=restarted)

    def send_raw_leaf_away(self) -> None:
        number, raw = self._a_raw_leaf()
        raw.is_away = True
        raw.drop()

        def repair() -> None:
            raw.is_away = False

        self._world.breaks(f"away {number}", repair)

    def deafen_raw_leaf(self) -> None:
        number, raw = self._a_raw_leaf()
        raw.is_deaf = True

        def repair() -> None:
            raw.is_deaf = False

        self._world.breaks(f"deaf {number}", repair)

    def change_routes_of_raw_leaf(self) -> None:
        number, raw = self._a_raw_leaf(hurts=False)
        added, removed = self._changes(number)
        raw.withdraw(removed)
        raw.announce(added)

    def ask_raw_refresh(self) -> None:
        self._a_raw_leaf(hurts=False)[1].refresh()

    def hostile_updates(self) -> None:
        """What no speaker sends, and what no host should believe."""
        number, raw = self._a_raw_leaf()
        chosen = self._world.chance.sample(
            sorted(hostile_messages(raw.asn, number)), self._world.chance.randrange(1, 5)
        )
        self._world.detail += f": {', '.join(chosen)}"
        messages = hostile_messages(raw.asn, number)
        raw.send(*(part for name in chosen for part in messages[name]))
        self._world.breaks(f"hostile {number}", raw.take_back)

    def burst_of_raw_leaf(self) -> None:
        """Many routes that come and go at once."""
        _, raw = self._a_raw_leaf(hurts=False)
        for _ in range(self._world.chance.randrange(1, 4)):
            raw.announce(BURST)
            raw.withdraw(BURST)

    def churn_of_raw_leaf(self) -> None:
        """Routes that come and go all the time, until that is repaired."""
        number, raw = self._a_raw_leaf(hurts=False)
        if self._world.has_broken(f"churn {number}"):
            return
        ended = threading.Event()

        def churn() -> None:
            while not ended.wait(CHURN_PAUSE_S):
                raw.announce(BURST[:CHURNED])
                raw.withdraw(BURST[:CHURNED])

        thread = threading.Thread(target=churn, daemon=True)
        thread.start()

        def repair() -> None:
            ended.set()
            thread.join()

        self._world.breaks(f"churn {number}", repair)

    def _a_raw_leaf(self, *, hurts: bool = True) -> tuple[int, RawLeaf]:
        number = self._a_leaf(RAW_LEAVES, hurts=hurts)
        return number, self._network.raw[number]

    def _a_leaf(self, numbers: tuple[int, ...], *, hurts: bool = True) -> int:
        number = self._world.chance.choice(numbers)
        self._world.detail = f"leaf{number}"
        if hurts and number in PINGED:
            self._world.may_hurt(number)
        return number

    def _changes(self, number: int) -> tuple[list[str], list[str]]:
        """What a leaf announces from now on, and what not any more; the model knows."""
        announced = self._world.model.announced[number]
        chosen = self._world.chance.sample(CHURN, self._world.chance.randrange(1, MOST_AT_ONCE))
        removed = [prefix for prefix in chosen if prefix in announced]
        added = [prefix for prefix in chosen if prefix not in announced]
        announced.difference_update(removed)
        announced.update(added)
        self._world.detail += f": {len(added)} come, {len(removed)} go"
        return added, removed
