"""Who gets a place among the dynamic neighbors, and who gives way."""

from __future__ import annotations

import msgspec

from bgpd.config.schema_sessions import ListenConfig
from bgpd.model.prefix import parse_address
from bgpd.speaker.peering import Peering, of_listen
from bgpd.speaker.places import BURST, EVERY_S, HALF_OPEN_MOST, ConnectRates, divided, gives_way, why_full

LISTEN = msgspec.convert(
    {
        "prefix": "10.64.0.0/16",
        "asn": "external",
        "import": "all",
        "max_neighbors": 6,
        "max_neighbors_per_interface": 3,
    },
    ListenConfig,
)


class One:
    def __init__(self, number: int, interface: str, *, takes_place: bool = True) -> None:
        address = parse_address(f"10.64.{number >> 8}.{number & 255}")
        self.peering: Peering = of_listen(LISTEN, address, "", arrival=interface)
        self.takes_place = takes_place


def test_one_interface_has_its_own_limit_and_the_range_one_for_all() -> None:
    others = [One(number, "tap1") for number in range(3)]
    assert "by tap1 already: max_neighbors_per_interface" in why_full(LISTEN, "tap1", divided(others)[0])
    assert why_full(LISTEN, "tap2", divided(others)[0]) == ""
    others += [One(10 + number, f"tap{number}") for number in range(2, 5)]
    assert "there are 6 neighbors of 10.64.0.0/16 already: max_neighbors" in why_full(
        LISTEN, "tap9", divided(others)[0]
    )


def test_half_open_connections_take_no_place_and_the_oldest_of_the_interface_gives_way() -> None:
    others = [One(number, "tap1", takes_place=False) for number in range(3)] + [One(9, "tap1")]
    assert why_full(LISTEN, "tap1", divided(others)[0]) == ""
    assert gives_way(LISTEN, "tap1", divided(others)[1]) is others[0]
    assert gives_way(LISTEN, "tap2", divided(others)[1]) is None


def test_of_all_half_open_connections_the_oldest_gives_way() -> None:
    others = [One(number, f"tap{number}", takes_place=False) for number in range(HALF_OPEN_MOST)]
    assert gives_way(LISTEN, "new", divided(others)[1]) is others[0]
    assert gives_way(LISTEN, "new", divided(others[1:])[1]) is None


def test_one_interface_connects_so_often_and_others_do_not_notice() -> None:
    rates = ConnectRates()
    assert [rates.take("tap1", 100.0) for _ in range(1000)].count(True) == BURST
    assert [rates.take("tap1", 110.0) for _ in range(1000)].count(True) == 10.0 / EVERY_S
    assert rates.take("tap2", 110.0)
