"""What a session that comes or goes makes of the uplinks: as if all were computed anew, and no work for other VRFs."""

from __future__ import annotations

import random

import pytest

from bgpd.evpn.uplinks import Uplinks
from bgpd.model.next_hop import NextHop
from tests.evpn.build import CONFIG, EVPN, LINKS, Host, leaf

MORE = """
[[vrf]]
name = "named"
table = 1003
vni = 5003
import_rt = ["65201:5003"]
uplinks = ["eth7"]
uplink_neighbors = { eth7 = "leaf2" }
[[vrf]]
name = "other"
table = 1004
vni = 5004
import_rt = ["65201:5004"]
uplinks = ["eth8", "eth9.4"]
[[vrf]]
name = "shared"
table = 1005
vni = 5005
import_rt = ["65201:5005"]
uplinks = ["eth6"]
"""
ADDRESSES = {**LINKS, "eth6": "172.16.0.1/16", "eth7": "10.7.0.1/24", "eth8": "10.8.0.1/31", "eth9.4": "10.9.0.1/31"}


def prepared() -> Host:
    host = Host(CONFIG + MORE)
    for number, name in enumerate(("eth6", "eth7", "eth8", "eth9.4"), 20):
        host.link(name, index=number)
        host.address(name, ADDRESSES[name])
    return host


@pytest.mark.parametrize("seed", range(20))
def test_uplinks_are_as_if_all_were_computed_anew(seed: int) -> None:
    chance = random.Random(seed)
    host = prepared()
    up = {}
    for _ in range(40):
        number = chance.randrange(1, 4)
        match chance.randrange(4):
            case 0 | 1:
                up[number] = leaf(number)
                host.evpn.neighbor_up(up[number], (EVPN,))
            case 2:
                if number in up:
                    host.evpn.neighbor_down(up.pop(number))
            case _:
                name = chance.choice(list(ADDRESSES))
                host.address(name, ADDRESSES[name], gone=bool(chance.randrange(2)))
        uplinks: Uplinks = host.evpn._uplinks
        uplinks.look_again()
        for vrf in host.evpn.vrfs.values():
            assert vrf.uplinks == tuple(uplinks.of(vrf.config, former=vrf.uplinks).values()), vrf.name


def test_a_session_is_no_work_for_vrfs_that_it_does_not_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    host = prepared()
    computed: list[str] = []
    of = Uplinks.of

    def counted(uplinks: Uplinks, config: object, **more: object) -> object:
        computed.append(config.name)  # type: ignore[attr-defined]
        return of(uplinks, config, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Uplinks, "of", counted)
    source = leaf(2)
    host.evpn.neighbor_up(source, (EVPN,))
    assert set(computed) == {"blue", "red", "named", "shared"}
    computed.clear()
    host.evpn.neighbor_down(source)
    assert set(computed) == {"blue", "red", "named", "shared"}
    computed.clear()
    host.reconfigure(CONFIG + MORE)
    assert not computed


def test_tables_of_a_vrf_are_found_without_looking_at_those_of_others() -> None:
    host = prepared()
    assert {table.vrf for table in host.rib._tables.of_vrf("blue")} == {"blue"}
    assert host.rib._tables.of_vrf("nowhere") == []
    assert host.rib.fallback("blue", {NextHop(b"\1\2\3\4")})((NextHop(b"\1\2\3\4"),)) is None
