"""The fabric with a switch between the host and each leaf, so that a leaf can die without a word: no link goes down."""

from __future__ import annotations

from labs.daemons import Frr
from labs.namespace import link
from tests.daemon.fabric import FabricWithSwitch, frr_config

LEARNED = "10.9.0.0/16"


class SwitchedFabric(FabricWithSwitch):
    """`cut(1)` loses all packets between the host and leaf1, `mend(1)` ends that."""

    def link_leaf(self, number: int) -> None:
        leaf = (self.leaf1, self.leaf2)[number - 1]
        link(self.host, f"eth{number - 1}", self.switch, f"host{number}")
        link(self.switch, f"leaf{number}", leaf, "swp1")
        self.switch.batch(
            f"link add br{number} type bridge",
            f"link set br{number} up",
            f"link set host{number} master br{number}",
        )
        self.mend(number)
        self.host.addresses(f"eth{number - 1}", f"10.0.{number}.1/24", f"2001:db8:{number}::1/64")
        leaf.addresses("swp1", f"10.0.{number}.2/24", f"2001:db8:{number}::2/64")

    def cut(self, number: int) -> None:
        self.switch.ip("link", "set", f"leaf{number}", "nomaster")

    def mend(self, number: int) -> None:
        self.switch.ip("link", "set", f"leaf{number}", "master", f"br{number}")

    def bfd_leaf(self, number: int, *lines: str, peer: str = "") -> Frr:
        """FRR as a leaf that has BFD with the host: 100 ms, three times."""
        name = peer or f"10.0.{number}.1"
        leaf = (self.leaf1, self.leaf2)[number - 1]
        config = frr_config(number, f"neighbor {name} bfd 3 100 100", *lines, peer=peer, networks=(LEARNED,))
        return Frr(leaf, config, bfd=True)
