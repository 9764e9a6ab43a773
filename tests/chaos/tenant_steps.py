"""What happens to the VRF: routes of its leaves, machines that move between hosts, its uplinks, its kernel table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from tests.chaos.evpn_wire import EvpnRoute
from tests.chaos.model import Claim
from tests.chaos.tenant import (
    CHURN,
    ENDPOINTS,
    ENDS,
    TABLE,
    VM_INTERFACE,
    VRF,
    endpoint_mac,
    uplink,
    uplink_addresses,
)
from tests.chaos.world import World

HERE, NOWHERE = -1, 0
"""Where an endpoint is, if it is not behind a leaf."""
MOST_AT_ONCE = 12
BURST = [EvpnRoute(f"10.{130 + number // 256}.{number % 256}.0/24") for number in range(1000)]
SEQUENCE_STEP = 10
"""How much another host's sequence grows by each move: more than this host's may meanwhile."""
LONGEST_OVERLAP_S = 1.0
LONGEST_ABSENCE_S = 2.0


class TenantSteps:
    """Each step is a method; what it does is chosen by `world.chance`, and by the model."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._network = world.network
        self._model = world.model
        self._tenant = world.model.tenant

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.change_routes_of_vrf,
            self.burst_of_vrf,
            self.move_endpoint,
            self.move_endpoints,
            self.cut_uplink,
            self.flap_uplink,
            self.remove_uplink_address,
            self.flap_vm_interface,
            self.delete_routes_of_vrf,
            self.flush_vrf,
            self.delete_rules,
            self.change_vrf,
            self.remove_and_add_vrf,
        ]

    # What leaves announce.

    def change_routes_of_vrf(self) -> None:
        """Type 5 routes of a leaf come and go."""
        number = self._an_end()
        announced = self._tenant.announced[number]
        chosen = self._world.chance.sample(CHURN, self._world.chance.randrange(1, MOST_AT_ONCE))
        gone = [prefix for prefix in chosen if prefix in announced]
        new = [prefix for prefix in chosen if prefix not in announced]
        announced.difference_update(gone)
        announced.update(new)
        raw = self._network.raw[number]
        raw.withdraw_evpn(*map(EvpnRoute, gone))
        raw.announce_evpn(*map(EvpnRoute, new))
        self._world.detail += f": {len(new)} come, {len(gone)} go"

    def burst_of_vrf(self) -> None:
        """Many type 5 routes that come and go at once."""
        raw = self._network.raw[self._an_end()]
        for _ in range(self._world.chance.randrange(1, 4)):
            raw.announce_evpn(*BURST)
            raw.withdraw_evpn(*BURST)

    # Machines that move.

    def move_endpoint(self) -> None:
        """One of them comes to another host, then goes from where it was, or the other way round."""
        self._move(self._world.chance.choice(ENDPOINTS))

    def move_endpoints(self) -> None:
        for address in self._world.chance.sample(ENDPOINTS, self._world.chance.randrange(2, 6)):
            self._move(address)

    def _move(self, address: str) -> None:
        chance = self._world.chance
        before = self._place(address)
        after = chance.choice([place for place in (HERE, NOWHERE, *ENDS) if place != before])
        goes_first, overlaps, pause_s = chance.random() < 0.5, chance.random() < 0.5, chance.random() ** 3
        self._world.detail += f" {address}: {_name(before)} to {_name(after)}"
        if self._world.has_broken(address):
            return
        self._world.touch(address)
        route = self._tenant.route(address) if address in self._tenant.elsewhere else None

        def leave() -> None:
            if route is not None:
                self._network.raw[before].withdraw_evpn(route)
            elif before == HERE:
                self._delete(address)

        self._tenant.elsewhere.pop(address, None)
        if goes_first:
            leave()
        self._arrive(address, after)
        if not goes_first and overlaps:
            self._world.breaks(address, leave)
        elif not goes_first:
            time.sleep(LONGEST_OVERLAP_S * pause_s)
            leave()

    def _place(self, address: str) -> int:
        if _id(address) in self._model.api:
            return HERE
        return self._tenant.elsewhere.get(address, (NOWHERE, 0))[0]

    def _arrive(self, address: str, place: int) -> None:
        if place == HERE:
            claim = Claim((address,), VM_INTERFACE, VRF, endpoint_mac(address))
            self._network.put_workload(_id(address), claim)
            self._model.api[_id(address)] = claim
        elif place != NOWHERE:
            self._tenant.sequences[address] += SEQUENCE_STEP
            self._tenant.elsewhere[address] = place, self._tenant.sequences[address]
            self._network.raw[place].announce_evpn(self._tenant.route(address))

    def _delete(self, address: str) -> None:
        self._network.delete_workload(_id(address))
        del self._model.api[_id(address)]

    # The links to leaves and VMs.

    def cut_uplink(self) -> None:
        """Until it is repaired the leaf's or the host's own end of an uplink is set down; sessions do not run by it."""
        number = self._an_end(hurts=True)
        at_host = self._world.chance.random() < 0.5
        self._world.detail += ", the host's end" if at_host else ", its end"
        if self._world.has_broken(uplink(number)):
            return
        if at_host:
            self._network.host_namespace.ip("link", "set", uplink(number), "down")
        else:
            self._network.leaves[number].ip("link", "set", "swp1.101", "down")
        self._world.breaks(uplink(number), lambda: self._set_up(number))

    def _set_up(self, number: int) -> None:
        self._network.host_namespace.ip("link", "set", uplink(number), "up")
        self._network.leaves[number].ip("link", "set", "swp1.101", "up")
        if number == 3:
            self._network.route_back()

    def flap_uplink(self) -> None:
        number = self._an_end(hurts=True)
        if not self._world.has_broken(uplink(number)):
            self._flap(uplink(number))

    def remove_uplink_address(self) -> None:
        """Until it is repaired the host lacks an address that its prefixes have as gateway."""
        number = self._an_end(hurts=True)
        address = self._world.chance.choice(uplink_addresses(number))
        part = f"address of {uplink(number)}"
        self._world.detail += f", {address}"
        if self._world.has_broken(part):
            return
        words = (address, "dev", uplink(number))
        self._network.host_namespace.ip("address", "del", *words)
        self._world.breaks(part, lambda: self._add_address(*words))

    def _add_address(self, *words: str) -> None:
        self._network.host_namespace.ip("address", "replace", *words)

    def flap_vm_interface(self) -> None:
        """That of all VMs, and of the one that is pinged."""
        self._world.may_hurt(3)
        on_it = self._model.own(VRF)
        self._world.touch(*(prefix.partition("/")[0] for prefix in on_it))
        self._flap(VM_INTERFACE)

    def _flap(self, interface: str) -> None:
        for _ in range(self._world.chance.randrange(1, 3)):
            self._network.host_namespace.ip("link", "set", interface, "down")
            time.sleep(self._world.chance.random() / 4)
            self._network.host_namespace.ip("link", "set", interface, "up")
            time.sleep(self._world.chance.random() / 4)

    # The kernel, by other programs.

    def delete_routes_of_vrf(self) -> None:
        """Some of bgpd's routes in the VRF's table."""
        self._world.may_hurt(3)
        for family in ("-4", "-6"):
            words = ("table", str(TABLE), "proto", "217")
            shown = self._network.host_namespace.run("ip", "-N", family, "-j", "route", "show", *words, check=False)
            found = sorted(route["dst"] for route in json.loads(shown or "[]"))
            for prefix in self._world.chance.sample(found, min(4, len(found))):
                self._network.host_namespace.run("ip", family, "route", "del", prefix, *words, check=False)

    def flush_vrf(self) -> None:
        """The VRF's table, of a family."""
        self._world.may_hurt(3)
        family = self._world.chance.choice(("-4", "-6"))
        words = ("route", "flush", "table", str(TABLE), "proto", "217")
        self._network.host_namespace.run("ip", family, *words, check=False)

    def delete_rules(self) -> None:
        """The policy rules by which packets are looked up in the VRF's table."""
        self._world.may_hurt(3)
        self._world.touch(VRF)
        family = self._world.chance.choice(("-4", "-6"))
        self._network.host_namespace.run("ip", family, "rule", "flush", "protocol", "217", check=False)

    # Its configuration.

    def change_vrf(self) -> None:
        """Another route target is imported, too, or not any more: no route has it."""
        self._tenant.imports_more = not self._tenant.imports_more
        self._network.reload()

    def remove_and_add_vrf(self) -> None:
        """Its claims stay, and are in force again with it."""
        self._world.may_hurt(3)
        self._world.touch(VRF)
        self._tenant.is_configured = False
        try:
            self._network.reload()
            time.sleep(LONGEST_ABSENCE_S * self._world.chance.random() ** 3)
        finally:
            self._tenant.is_configured = True
        self._network.reload()

    # What is chosen.

    def _an_end(self, *, hurts: bool = False) -> int:
        number = self._world.chance.choice(ENDS)
        self._world.detail = f"leaf{number}"
        if hurts:
            self._world.touch(VRF)
            self._world.may_hurt(number)
            for raw in self._network.raw.values():
                raw.heard.unsteady_rounds = 2
        return number


def _id(address: str) -> str:
    """Of the claim of an endpoint."""
    return f"vm{address.rpartition('.')[2]}"


def _name(place: int) -> str:
    return {HERE: "here", NOWHERE: "nowhere"}.get(place, f"leaf{place}")
