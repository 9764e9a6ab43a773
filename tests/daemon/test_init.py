"""`bgpd init` on a host beside an FRR leaf: what it writes is safe to start, speaks to the leaf, and announces nothing
before a person has said what.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from labs.daemons import Bgpd, Frr
from labs.namespace import Namespace, link
from labs.process import wait_until

pytestmark = pytest.mark.netns

LEAF = """
router bgp 65201
 bgp router-id 10.255.0.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor swp1 interface remote-as external
 address-family ipv4 unicast
  network 10.9.0.0/16
  network 0.0.0.0/0
 exit-address-family
exit
"""


@pytest.fixture
def host() -> Iterator[Namespace]:
    """A host with a loopback address, a management network with the default route, and workloads."""
    with Namespace("host") as host, Namespace("office") as office:
        link(host, "eth9", office, "port")
        host.addresses("lo", "10.255.9.9/32")
        host.addresses("eth9", "192.0.2.10/24")
        host.batch(
            "route add default via 192.0.2.1 protocol dhcp metric 100",
            "link add cali12 type veth peer name inside",
            "link set cali12 up",
            "route add 198.51.100.7/32 dev eth9 protocol bird metric 17",
        )
        yield host


def initialised(host: Namespace, file: Path, *arguments: str) -> Config:
    host.run(sys.executable, "-m", "bgpd", "init", "--output", str(file), *arguments, timeout_s=120)
    assert "good" in host.run(sys.executable, "-m", "bgpd", "check", str(file))
    return parse_config(file.read_text(), str(file))[0]


def has_route(leaf: Frr, prefix: str) -> bool:
    found: dict[str, Any] = leaf.vtysh_json("show bgp ipv4 unicast json")
    return prefix in found["routes"]


def used(bgpd: Bgpd) -> set[str]:
    """Prefixes with a best path."""
    routes = bgpd.show("routes")
    return {route["prefix"] for route in routes if any(one["role"] == "best" for one in route["candidates"])}


def is_up(bgpd: Bgpd) -> bool:
    return all(neighbor["state"] == "established" for neighbor in bgpd.show("neighbors"))


def test_what_init_writes_beside_a_leaf_speaks_to_it_and_announces_nothing(host: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "bgpd.toml"
    with Namespace("leaf") as leaf_namespace:
        link(host, "eth0", leaf_namespace, "swp1")
        with Frr(leaf_namespace, LEAF) as leaf:
            config = initialised(host, file, "--listen", "6")
            text = file.read_text()
            (neighbor,) = config.neighbor
            assert (neighbor.interface, neighbor.asn, neighbor.import_) == ("eth0", "external", "default-only")
            assert "# seen: a router advertises itself there: fe80::" in text
            assert '#[[neighbor]]\n#name = "eth9"' in text, "a management network is for a person to decide"
            assert config.fib.metric == 18, "17 is another program's"
            assert re.search(r"# seen: default route via 192\.0\.2\.1 on eth9 by rtproto 16 \(dhcp\), metric 100", text)
            assert config.workload.addresses is None
            assert config.workload.kernel is None
            with Bgpd(host, text) as bgpd:
                wait_until(lambda: is_up(bgpd), what="the session", timeout_s=60)
                wait_until(lambda: used(bgpd) == {"0.0.0.0/0"}, what="the leaf's default route", timeout_s=30)
                assert bgpd.show("advertised", "--neighbor", neighbor.name) == []
                assert "via 192.0.2.1 dev eth9" in host.ip("route", "show", "default")
                opened = re.sub(
                    r"^#(\[workload\.addresses\]|interfaces = \[\"lo\"|prefixes = )", r"\1", text, flags=re.M
                )
                bgpd.write_config(opened)
                bgpd.reload()
                wait_until(lambda: has_route(leaf, "10.255.9.9/32"), what="the loopback at the leaf", timeout_s=30)


def test_init_alone_proposes_and_says_what_is_missing(host: Namespace, tmp_path: Path) -> None:
    config = initialised(host, tmp_path / "bgpd.toml", "--listen", "0")
    text = (tmp_path / "bgpd.toml").read_text()
    assert config.neighbor == ()
    assert "# WARNING: no router was seen on any interface: write a [[neighbor]]" in text
    assert "# not seen: router advertisements: not listened for" in text
    assert '#interfaces = ["cali*"]' in text


def test_init_warns_of_another_speaker(host: Namespace, tmp_path: Path) -> None:
    with Frr(host, "router bgp 65009\n bgp router-id 10.255.9.9\nexit\n"):
        initialised(host, tmp_path / "bgpd.toml", "--listen", "0")
    text = (tmp_path / "bgpd.toml").read_text()
    assert re.search(r"# WARNING: bgpd \(pid \d+\) listens on 0\.0\.0\.0 port 179: bgpd can take no connections", text)
    assert re.search(r"# WARNING: FRR runs here \(process (zebra|bgpd), pid \d+\)", text)
