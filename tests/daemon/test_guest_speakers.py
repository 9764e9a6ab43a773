"""ExaBGP with its healthcheck, GoBGP, BIRD and FRR as guests of one host at the same time: each is killed in turn, and
the leaf loses what was its, and nothing of the others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labs.daemons import Bird, Daemon, ExaBgp, Frr, Gobgp
from labs.gobgp_config import gobgp_neighbor, gobgp_router
from tests.daemon.fabric import Fabric, Host, frr_paths, heard_from_host, kernel_hops, leaf, started, table

pytestmark = pytest.mark.netns

HEALTHCHECK = Path(sys.executable).with_name("exabgp-healthcheck")


def exabgp(fabric: Fabric, directory: Path) -> ExaBgp:
    """On loopback, by iBGP; it announces 10.9.1.1 while the file "alive" exists."""
    check = f"{HEALTHCHECK} --cmd 'test -e {directory}/alive' --ip 10.9.1.1/32 --no-ip-setup --withdraw-on-down"
    check += " --interval 1 --fast-interval 0 --rise 1 --fall 1 --no-syslog"
    return ExaBgp(
        fabric.host,
        f"""
process check {{ run {check}; encoder text; }}
neighbor 127.0.0.1 {{
  router-id 10.255.9.1; local-address 127.0.0.2; local-as 65203; peer-as 65203;
  family {{ ipv4 unicast; }}
  api {{ processes [ check ]; }}
}}
""",
    )


def gobgp(fabric: Fabric, directory: Path) -> Gobgp:
    """On loopback, by eBGP."""
    found = Gobgp(
        fabric.host,
        gobgp_router(64513, "10.255.9.2", "port = -1\n")
        + gobgp_neighbor(
            "127.0.0.1",
            65203,
            "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 2\n",
            local_address="127.0.0.3",
            idle_hold_time_after_reset=1,
        ),
    )
    found.run("global", "rib", "add", "10.9.2.1/32", "-a", "ipv4")
    found.run("global", "rib", "add", "0.0.0.0/0", "-a", "ipv4")
    return found


def bird(fabric: Fabric, directory: Path) -> Bird:
    """In a namespace of its own behind a veth, by eBGP."""
    return Bird(
        fabric.pods,
        """
router id 10.255.9.3;
protocol device {}
protocol static { ipv4; route 10.9.3.0/24 blackhole; route 10.9.3.1/32 blackhole; route 10.0.1.2/32 blackhole; }
protocol bgp host {
  local 10.70.0.2 as 64514; neighbor 10.70.0.1 as 65203; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export all; };
}
""",
    )


def frr(fabric: Fabric, directory: Path) -> Frr:
    """On loopback; it dials an address of 127.0.0.0/8 that no interface has, since it refuses those of the host, and
    wants a route to it, which the default route is; from one that an interface has."""
    return Frr(
        fabric.host,
        """
ip nht resolve-via-default
router bgp 64515
 bgp router-id 10.255.9.4
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 127.0.0.5 remote-as 65203
 neighbor 127.0.0.5 update-source 10.255.1.1
 neighbor 127.0.0.5 ebgp-multihop
 neighbor 127.0.0.5 disable-connected-check
 neighbor 127.0.0.5 timers connect 1
 address-family ipv4 unicast
  network 10.9.4.1/32
 exit-address-family
exit
""",
        port=0,
    )


GUESTS: dict[str, tuple[Callable[[Fabric, Path], Daemon], str]] = {
    "exabgp": (exabgp, "10.9.1.1/32"),
    "gobgp": (gobgp, "10.9.2.1/32"),
    "bird": (bird, "10.9.3.1/32"),
    "frr": (frr, "10.9.4.1/32"),
}


@pytest.fixture(scope="module")
def host(fabric: Fabric) -> Iterator[Host]:
    fabric.host.addresses("pod1", "10.70.0.1/24")
    fabric.host.addresses("lo", "10.255.1.1/32")
    fabric.pods.addresses("pod1", "10.70.0.2/24")
    common = {"max_prefixes": 10, "connect_retry_s": 1, "families": ["ipv4-unicast"], "hold_time_s": 9}
    guests = [
        table("[[workload.bgp]]", name=name, address=address, asn=asn, prefixes=[f"10.9.{at}.0/24 le 32"], **common)
        for at, (name, address, asn) in enumerate(
            [
                ("exabgp", "127.0.0.2", "internal"),
                ("gobgp", "127.0.0.3", 64513),
                ("bird", "10.70.0.2", 64514),
                ("frr", "10.255.1.1", "external"),
            ],
            1,
        )
    ]
    with started(fabric, leaf(1), *guests) as host:
        yield host


def test_each_guest_is_killed_and_comes_back(fabric: Fabric, host: Host, tmp_path: Path) -> None:
    """`frr` here is the leaf's, too: what it has is what the fabric has."""
    (tmp_path / "alive").touch()
    with contextlib.ExitStack() as stack:
        top = stack.enter_context(fabric.frr(1, networks=("0.0.0.0/0",)))
        made = {name: stack.enter_context(make(fabric, tmp_path)) for name, (make, _) in GUESTS.items()}
        host.wait(lambda: set(GUESTS) <= set(host.established()), "the guests to be established", timeout_s=40)
        for _, prefix in GUESTS.values():
            host.wait(lambda prefix=prefix: heard_from_host(top, prefix), f"the leaf to hear {prefix}")  # type: ignore[misc]
        assert kernel_hops(fabric.host, "10.9.3.1") == ["10.70.0.2%pod1"]
        expected = {prefix for _, prefix in GUESTS.values()} | {"10.9.3.0/24"}
        heard = top.vtysh_json("show bgp ipv4 unicast json")["routes"]
        assert {prefix for prefix in heard if heard_from_host(top, prefix)} == expected
        for name, (make, prefix) in GUESTS.items():
            since = {other: frr_paths(top, other)[0]["version"] for _, other in GUESTS.values() if other != prefix}
            made[name].kill()
            host.wait(lambda prefix=prefix: not frr_paths(top, prefix), f"{prefix} to go", timeout_s=20)  # type: ignore[misc]
            made[name].stop()
            made[name] = stack.enter_context(make(fabric, tmp_path))
            host.wait(lambda prefix=prefix: heard_from_host(top, prefix), f"{prefix} to be back", timeout_s=30)  # type: ignore[misc]
            assert since == {other: frr_paths(top, other)[0]["version"] for other in since}, name
        (tmp_path / "alive").unlink()
        host.wait(lambda: not frr_paths(top, "10.9.1.1/32"), "the healthcheck to withdraw")
        assert "exabgp" in host.established()
        (tmp_path / "alive").touch()
        host.wait(lambda: heard_from_host(top, "10.9.1.1/32"), "the healthcheck to announce again")
        assert host.neighbor("leaf1")["flaps"] == 0
