"""Which address a session gives as the next hop of its routes, and when that is another one."""

from __future__ import annotations

from typing import Any

import pytest

from bgpd.kernel.host import Host
from bgpd.model.kernel import Address, Link
from bgpd.model.prefix import parse_address
from bgpd.speaker.next_hop_self import NextHopSelf


class Rig:
    """A session over eth0 (or with another `interface`), on a host that a test changes; `change` follows an address."""

    def __init__(self, local: str, *addresses: str, interface: str = "eth0") -> None:
        self.host = Host(lambda _: None)
        for index, name in enumerate(("lo", "eth0", "eth1"), 1):
            self.host.link(Link(index=index, name=name, up=True))
        for text in addresses:
            self.host.address(address(text))
        self.choice = NextHopSelf(self.host, local=parse_address(local), interface=interface, vrf="")

    def change(self, text: str, *, gone: bool = False, **fields: Any) -> bool:
        changed = address(text, **fields)
        self.host.address(changed, gone=gone)
        return self.choice.follow(self.host.name_of(changed.index))

    @property
    def chosen(self) -> tuple[str | bytes | None, ...]:
        chosen = self.choice.chosen
        return chosen.ipv4, chosen.ipv6, chosen.link_local


def address(text: str, **fields: Any) -> Address:
    """ "10.0.0.1/24" is on eth0, "eth1 10.0.0.1/24" on eth1."""
    name, _, rest = text.rpartition(" ")
    packed, _, length = rest.partition("/")
    index = {"lo": 1, "": 2, "eth1": 3}[name]
    return Address(index=index, packed=parse_address(packed), prefix_length=int(length), **fields)


def packed(*texts: str) -> tuple[bytes | None, ...]:
    return tuple(parse_address(text) if text else None for text in texts)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", "2001:db8::1", "fe80::1")),
        ("2001:db8::9", ("10.0.0.1", "2001:db8::9", "fe80::1")),
        ("fe80::1", ("10.0.0.1", "2001:db8::1", "fe80::1")),
    ],
)
def test_the_session_s_own_address_and_those_of_its_interface(local: str, expected: tuple[str, ...]) -> None:
    own = ("10.0.0.1/24", "2001:db8::1/64", "2001:db8::9/64", "fe80::1/64", "eth1 10.0.0.0/24", "eth1 2001:db8::/64")
    assert Rig(local, *own).chosen == packed(*expected)


def test_the_address_in_use_stays_while_it_exists_then_the_next_follows_then_none() -> None:
    rig = Rig("10.0.0.1", "10.0.0.1/24", "2001:db8::5/64")
    assert not rig.change("2001:db8::1/64")
    assert not rig.change("2001:db8::5/64", deprecated=True)
    assert rig.chosen == packed("10.0.0.1", "2001:db8::5", "")
    assert rig.change("2001:db8::5/64", gone=True)
    assert rig.chosen == packed("10.0.0.1", "2001:db8::1", "")
    assert rig.change("2001:db8::1/64", gone=True)
    assert rig.chosen == packed("10.0.0.1", "", "")


def test_another_prefix_length_of_the_address_in_use_changes_nothing() -> None:
    rig = Rig("fe80::1", "fe80::1/64", "10.0.0.1/24")
    assert not rig.change("10.0.0.1/30")
    assert not rig.change("10.0.0.1/24", gone=True)
    assert rig.chosen == packed("10.0.0.1", "", "fe80::1")
    assert rig.change("10.0.0.1/30", gone=True)


def test_a_tentative_address_is_chosen_when_it_is_usable_and_a_preferred_one_before_a_deprecated_one() -> None:
    rig = Rig("10.0.0.1", "10.0.0.1/24")
    assert not rig.change("2001:db8::1/64", usable=False)
    assert rig.change("2001:db8::2/64", deprecated=True)
    assert rig.chosen == packed("10.0.0.1", "2001:db8::2", "")
    assert not rig.change("2001:db8::1/64")
    assert rig.change("2001:db8::2/64", gone=True)
    assert rig.chosen == packed("10.0.0.1", "2001:db8::1", "")
    assert Rig("10.0.0.1", "10.0.0.1/24", "2001:db8::1/64").change("eth1 2001:db8::/64") is False


def test_a_link_local_address_lives_on_its_interface_and_another_in_its_vrf() -> None:
    rig = Rig("fe80::1", "fe80::1/64", "eth1 fe80::1/64")
    rig.change("eth1 fe80::1/64", gone=True)
    assert rig.choice.has_local
    rig.change("fe80::1/64", gone=True)
    assert not rig.choice.has_local
    rig = Rig("10.0.0.1", "10.0.0.1/24", "lo 10.0.0.1/32")
    rig.change("10.0.0.1/24", gone=True)
    assert rig.choice.has_local
    rig.host.link(Link(index=3, name="eth1", up=True, vrf="blue"))
    rig.change("eth1 10.0.0.1/24")
    rig.change("lo 10.0.0.1/32", gone=True)
    assert not rig.choice.has_local


def test_a_routed_session_uses_the_interface_that_has_its_address() -> None:
    rig = Rig("10.255.0.1", "lo 10.255.0.1/32", "lo 2001:db8::255/128", "2001:db8::1/64", interface="")
    assert rig.chosen == packed("10.255.0.1", "2001:db8::255", "")
    assert rig.change("lo 2001:db8::255/128", gone=True)
    assert rig.chosen == packed("10.255.0.1", "", "")


def test_an_interface_that_another_vrf_gets_by_a_rule_keeps_the_session_s_address() -> None:
    """That of a guest, by its first route. The same address on another interface may go then."""
    rig = Rig("10.0.0.1", "10.0.0.1/24", "eth1 10.0.0.1/32")
    rig.host.assign("eth0", "blue")
    rig.change("eth1 10.0.0.1/32", gone=True)
    assert rig.choice.has_local
    rig.change("10.0.0.1/24", gone=True)
    assert not rig.choice.has_local
