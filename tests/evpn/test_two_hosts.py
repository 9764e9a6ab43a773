"""Two hosts behind one leaf, joined in memory: a VM that moves between them is announced by one of them in the end, and
the other forwards there."""

from __future__ import annotations

import pytest

from bgpd.evpn.mac_mobility import decode_mobility
from bgpd.model.evpn import parse_key
from bgpd.model.prefix import parse_prefix
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from tests.evpn.build import CONFIG, EVPN, VIA1, Host, host_route, mobility

MAC = "02:00:00:00:00:aa"
VM = "10.64.0.7/32"
KEY = parse_prefix(VM)[1]
ROUNDS = 20


class Fabric:
    """Each host hears what the other tells its leaf."""

    def __init__(self, *router_ids: str, distinguishers: tuple[str, ...] = ("auto", "auto")) -> None:
        self.hosts = [
            Host(CONFIG.replace("10.255.1.1", router_id).replace("vni = 5001", f'vni = 5001\nrd = "{rd}"'))
            for router_id, rd in zip(router_ids, distinguishers)
        ]
        self.leaves: list[Source] = [host.up(1) for host in self.hosts]
        self.relayed: list[dict[bytes, RouteBatch]] = [{} for _ in self.hosts]
        self.settle()

    def settle(self) -> int:
        """Relay until nobody says anything new; how many rounds it took."""
        for number in range(ROUNDS):
            before = [host.announced_to("leaf1") for host in self.hosts]
            if before == self.relayed:
                return number
            for index, told in enumerate(before):
                self.relay(index, told)
            self.relayed = before
        raise AssertionError("the hosts go on for ever")

    def relay(self, index: int, told: dict[bytes, RouteBatch]) -> None:
        other = 1 - index
        for key in self.relayed[index].keys() - told.keys():
            self.hosts[other].unhear(self.leaves[other], key)
        for key, batch in told.items():
            if self.relayed[index].get(key) != batch and batch.family is EVPN:
                received = RouteBatch(
                    family=EVPN, announced=[key], attributes=batch.attributes, next_hop=VIA1, overlay=batch.overlay
                )
                self.hosts[other].rib.received.routes_received(self.leaves[other], [received])
                self.hosts[other].turn()

    def holders(self) -> list[int]:
        """The hosts that announce the VM as type 2."""
        told = [[parse_key(key) for key in host.announced_to("leaf1")] for host in self.hosts]
        return [index for index, routes in enumerate(told) if any(route.ip == KEY[1:] for route in routes)]

    def sequence(self, index: int) -> int:
        for key, batch in self.hosts[index].announced_to("leaf1").items():
            if parse_key(key).ip == KEY[1:] and batch.attributes is not None:
                return decode_mobility(batch.attributes.extended_communities).sequence
        raise AssertionError("not announced")


def test_a_vm_that_moves_is_announced_by_its_new_host_and_the_old_one_forwards_there() -> None:
    fabric = Fabric("10.255.0.1", "10.255.0.2")
    first, second = fabric.hosts
    first.workload(VM, mac=MAC)
    fabric.settle()
    assert second.forwards(VM) == (VIA1,)
    second.workload(VM, mac=MAC)
    fabric.settle()
    assert fabric.holders() == [1]
    assert fabric.sequence(1) == 1
    assert first.forwards(VM) == (VIA1,)
    assert first.given_up[-1][:2] == ("blue", [KEY])


def test_there_and_back_raises_the_sequence_each_time() -> None:
    fabric = Fabric("10.255.0.1", "10.255.0.2")
    for number in range(4):
        here = number % 2
        for host in fabric.hosts:
            host.now += 100
        fabric.hosts[here].workload(VM, mac=MAC)
        fabric.settle()
        assert fabric.holders() == [here]
        assert fabric.sequence(here) == number
        fabric.hosts[1 - here].workload_gone(VM)
        fabric.settle()


def test_claimed_by_both_at_once_the_lower_router_id_keeps_it() -> None:
    for router_ids in (("10.255.0.1", "10.255.0.2"), ("10.255.0.2", "10.255.0.1")):
        fabric = Fabric(*router_ids)
        for host in fabric.hosts:
            host.workload(VM, mac=MAC)
        fabric.settle()
        assert fabric.holders() == [router_ids.index("10.255.0.1")]


@pytest.mark.parametrize("distinguishers", [("65204:1001", "65203:1001"), ("auto", "65203:1001"), ("65203:1", "auto")])
def test_claimed_by_both_at_once_one_has_it_whatever_form_the_route_distinguishers_have(
    distinguishers: tuple[str, str],
) -> None:
    fabric = Fabric("10.255.0.1", "10.255.0.2", distinguishers=distinguishers)
    for host in fabric.hosts:
        host.workload(VM, mac=MAC)
    fabric.settle()
    assert fabric.holders() == [1 if distinguishers[1].startswith("65203") else 0]


def test_two_hosts_that_claim_an_address_again_and_again_come_to_rest() -> None:
    fabric = Fabric("10.255.0.1", "10.255.0.2")
    for number in range(30):
        fabric.hosts[number % 2].workload(VM, mac=MAC)
        fabric.settle()
    standings = {verdict.state.value for host in fabric.hosts for _, verdict in host.evpn.endpoints.all()}
    assert "frozen" in standings
    assert len(fabric.holders()) <= 1


def test_a_host_that_dies_leaves_the_address_to_the_one_that_had_it_before() -> None:
    fabric = Fabric("10.255.0.1", "10.255.0.2")
    first, second = fabric.hosts
    first.workload(VM, mac=MAC)
    fabric.settle()
    second.workload(VM, mac=MAC)
    fabric.settle()
    second.workload_gone(VM)
    fabric.settle()
    assert first.given_up[-1] == ("blue", [KEY], "")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_sticky_on_one_host_has_it_whatever_the_sequences_and_the_order(order: tuple[int, int]) -> None:
    fabric = Fabric("10.255.0.1", "10.255.0.2")
    for index in order:
        fabric.hosts[index].workload(VM, mac=MAC, sticky=index == 1)
        fabric.settle()
    assert fabric.holders() == [1]
    assert fabric.hosts[0].forwards(VM) == (VIA1,)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_sticky_on_both_hosts_one_has_it(order: tuple[int, int]) -> None:
    fabric = Fabric("10.255.0.1", "10.255.0.2")
    for index in order:
        fabric.hosts[index].workload(VM, mac=MAC, sticky=True)
        fabric.settle()
    assert fabric.holders() == [0]


@pytest.mark.parametrize("sticky", [False, True])
def test_what_was_given_up_for_another_host_comes_back_when_its_route_is_lost_with_the_leaf(sticky: bool) -> None:
    host = Host(CONFIG)
    leaf = host.up(1)
    host.workload(VM, mac=MAC)
    host.hear(leaf, host_route("10.64.0.7", mac=MAC), communities=[mobility(5, sticky=sticky)])
    assert host.given_up[-1][:2] == ("blue", [KEY])
    assert host.given_up[-1][2]
    host.down(leaf)
    assert host.given_up[-1] == ("blue", [KEY], "")
