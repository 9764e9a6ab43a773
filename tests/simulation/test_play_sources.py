"""Scenarios of users with BFD, a broker, services, tenants, and policies of routers."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from bgpd.cli.reports import SimulationReport
from bgpd.migrate.draft import ImportFailed
from bgpd.simulation.clab import read_topology
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.host import SimulatedHost
from bgpd.simulation.play import simulate
from bgpd.simulation.reach import Packets
from bgpd.simulation.steps import Step, read_steps, standard_steps
from tests.simulation.__main__ import quietly
from tests.simulation.topologies import CONFIG, LAB, TOPOLOGY, written

EVPN, FEEDS, FAULTS = (str(LAB / f"{name}.clab.yml") for name in ("evpn-two-tenant", "feeds", "faults"))
SERVICE, BACKEND = "10.64.100.1", "10.64.1.1"


@pytest.fixture(autouse=True)
def quiet() -> None:
    quietly()


def played(topology: str, *steps: Step) -> SimulationReport:
    return simulate(
        read_topology(topology),
        lambda _fabric: list(steps),
        seed=0,
        began=lambda _built: None,
        told=lambda _report: None,
    )


def watched(
    topology: str, steps: list[Step], look: Callable[[Fabric], object]
) -> tuple[SimulationReport, list[object]]:
    """The report, and what is to be seen in the fabric after each step."""
    fabrics: list[weakref.ref[Fabric]] = []
    seen: list[object] = []

    def steps_of(fabric: Fabric) -> list[Step]:
        fabrics.append(weakref.ref(fabric))
        return steps

    def told(_report: object) -> None:
        fabric = fabrics[0]()
        assert fabric is not None
        seen.append(look(fabric))

    report = simulate(read_topology(topology), steps_of, seed=0, began=lambda _built: None, told=told)
    return report, seen


def wrong(report: SimulationReport) -> list[str]:
    return [f"{one.step}: {text}" for one in report.steps for text in one.wrong]


def lost_s(report: SimulationReport, address: str) -> list[float | None]:
    """How long an address was lost in the last step, wherever it was for longest; nothing, if it was not."""
    found = [loss.seconds for loss in report.steps[-1].losses if address in loss.addresses]
    return [None if None in found else max(one for one in found if one is not None)] if found else []


# BFD


def test_bfd_finds_a_leaf_that_dies_without_a_word() -> None:
    report = played(FAULTS, Step(do="dies", node="leaf1"))
    assert wrong(report) == []
    (seconds,) = lost_s(report, "198.51.100.0/24")
    assert seconds is not None
    assert 0.2 < seconds < 0.5, "three packets of 100 ms, and not the hold time of 9 s"


def test_bfd_process_that_dies_is_back() -> None:
    assert wrong(played(FAULTS, Step(do="bfd-dies", node="host1", down_s=2))) == []


# The host's own addresses


def test_addresses_of_the_host_itself_are_announced_reached_and_lost(tmp_path: Path) -> None:
    lines = [
        f"        - ip address add {one}\n"
        for one in ("10.255.1.1/32 dev lo", "127.0.0.5/8 dev lo", "10.8.0.1/24 dev d0")
    ]
    topology = TOPOLOGY.replace("      exec:\n", "      exec:\n" + "".join(lines))
    config = CONFIG + '[workload.addresses]\ninterfaces = ["*"]\nprefixes = ["10.0.0.0/8"]\n'
    steps = [Step(do="kill", node="host1"), Step(do="link-down", link=("leaf1", "host1"))]
    report = played(written(tmp_path, topology=topology, config=config), *steps)
    assert (wrong(report), report.unforeseen) == ([], [])
    assert [lost_s(report, one) for one in ("10.255.1.1/32", "10.8.0.1/32", "10.0.11.1/32")] == [[None], [None], []]


# A broker


def test_claims_come_by_the_broker_and_outlive_it() -> None:
    claim = Step(do="claim", node="host1", address="10.64.1.7/32")
    report = played(FEEDS, claim, Step(do="broker-dies"), Step(do="broker-loses-all"))
    assert wrong(report) == []
    assert report.addresses == 1
    assert [one.losses for one in report.steps[2:]] == [[], []]


def test_what_is_claimed_while_the_broker_is_away_comes_later() -> None:
    report = played(
        FEEDS,
        Step(do="broker-dies", down_s=5),
        Step(do="claim", node="host1", address="10.64.1.7/32", after_s=1),
    )
    assert wrong(report) == []
    (seconds,) = lost_s(report, "10.64.1.7/32")
    assert seconds is not None
    assert seconds > 4


def messages(tmp_path: Path) -> list[Step]:
    """A backend and a service."""
    pod = {"addresses": [BACKEND], "interface": "pod1"}
    check = {"type": "tcp", "port": 80, "interval_s": 1.0, "timeout_s": 0.5, "rise": 1, "fall": 1}
    service = {"addresses": [SERVICE], "backends": [{"id": "one", "addresses": [BACKEND]}], "check": check}
    steps = []
    for topic, body in (("workloads/pod", pod), ("services/web", service)):
        file = tmp_path / f"{topic.replace('/', '-')}.json"
        file.write_text(json.dumps(body))
        steps.append(Step(do="publish", node="host1", topic=topic, file=str(file)))
    return steps


def test_published_service_follows_the_health_of_its_backend(tmp_path: Path) -> None:
    steps = [
        *messages(tmp_path),
        Step(do="backend-fails", node="host1", address=f"{BACKEND}/32"),
        Step(do="backend-works", node="host1", address=f"{BACKEND}/32"),
        Step(do="unpublish", node="host1", topic="services/web"),
    ]

    def look(fabric: Fabric) -> bool:
        return f"{SERVICE}/32" in fabric.routers["leaf1"].peers["host1"].routes

    report, announced = watched(FEEDS, steps, look)
    assert wrong(report) == []
    assert announced == [False, False, True, False, True, False]


# Tenants


def test_workloads_of_tenants_are_reached_by_vlans_of_the_leaves() -> None:
    report = played(EVPN, Step(do="link-down", link=("leaf1", "host1")))
    assert wrong(report) == []
    (seconds,) = lost_s(report, "10.64.1.1/32 of blue")
    assert seconds is not None
    assert seconds < 0.1
    assert report.addresses == 9


def test_machine_moves_between_hosts() -> None:
    machine = {"address": "10.64.1.20/32", "vrf": "blue", "mac": "02:00:00:00:01:14"}
    report = played(
        EVPN,
        Step(do="claim", node="host1", **machine),  # type: ignore[arg-type]
        Step(do="move", node="host2", **machine),  # type: ignore[arg-type]
        Step(do="release", node="host2", address="10.64.1.20/32", vrf="blue"),
    )
    assert wrong(report) == []
    assert report.addresses == 9, "as at the start"
    assert [one.step for one in report.steps[1:3]] == [
        "claim host1 10.64.1.20/32 of blue",
        "move host2 10.64.1.20/32 of blue",
    ]


def test_workload_of_a_tenant_that_is_not_announced_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async def put_machine(self: SimulatedHost, vrf: str, address: str, **_options: object) -> None:
        self.machines[vrf, address] = False

    monkeypatch.setattr(SimulatedHost, "put_machine", put_machine)
    found = wrong(played(EVPN, Step(do="claim", node="host1", address="10.64.1.20/32", vrf="blue")))
    assert any("of blue of host1, which owns" in one for one in found)
    assert any("from host2 to 10.64.1.20/32 of blue: host2 has no route" in one for one in found)


def test_standard_steps_are_about_what_there_is() -> None:
    steps: dict[str, list[Step]] = {}
    for name in (EVPN, FEEDS, FAULTS):
        simulate(
            read_topology(name),
            lambda fabric, name=name: steps.setdefault(name, standard_steps(fabric)) and [],  # type: ignore[misc]
            seed=0,
            began=lambda _built: None,
            told=lambda _report: None,
        )
    assert [one.vrf for one in steps[EVPN] if one.do == "move"] == ["blue"] * 3
    assert {"broker-dies", "broker-loses-all"} <= {one.do for one in steps[FEEDS]}
    assert [one.do for one in steps[FAULTS] if one.do.startswith(("bfd", "broker"))] == ["bfd-dies"]


# Policies of routers


def test_route_map_of_a_leaf_decides_what_passes(tmp_path: Path) -> None:
    (tmp_path / "frr.conf").write_text("""
interface eth1
 ip address 10.0.11.0/31
router bgp 65201
 no bgp network import-check
 neighbor 10.0.11.1 remote-as 65203
 neighbor 10.0.11.1 timers 3 9
 address-family ipv4 unicast
  network 198.51.100.0/24
  network 203.0.113.0/24
  neighbor 10.0.11.1 route-map OUT out
  neighbor 10.0.11.1 prefix-list NONE in
ip prefix-list ONE permit 198.51.100.0/24
ip prefix-list NONE deny any
route-map OUT permit 10
 match ip address prefix-list ONE
""")
    topology = TOPOLOGY.replace(
        'leaf1: {kind: linux, labels: {role: leaf, announces: "198.51.100.0/24"}}',
        "leaf1: {kind: linux, binds: [frr.conf:/etc/frr/frr.conf]}",
    )
    report = played(written(tmp_path, topology=topology), Step(do="hand-over", node="host1"))
    assert wrong(report) == []
    assert report.unforeseen == ["prefix-list NONE in of leaf1 for host1", "route-map OUT out of leaf1 for host1"]


HOST2 = """
    host2:
      kind: linux
      binds: [bgpd2.toml:/etc/bgpd/bgpd.toml:ro]
      exec:
        - ip address add 10.0.21.1/31 dev eth0
        - ip route add 10.64.2.1/32 dev pod1 scope link
    pod1:"""


def test_hosts_of_one_as_reach_each_other_by_a_leaf_that_reflects_routes(tmp_path: Path) -> None:
    (tmp_path / "frr.conf").write_text("""
interface eth1
 ip address 10.0.11.0/31
interface eth2
 ip address 10.0.21.0/31
router bgp 65203
 bgp router-id 10.255.0.1
 no bgp network import-check
 neighbor HOSTS peer-group
 neighbor HOSTS remote-as internal
 neighbor HOSTS timers 3 9
 neighbor 10.0.11.1 peer-group HOSTS
 neighbor 10.0.21.1 peer-group HOSTS
 address-family ipv4 unicast
  network 198.51.100.0/24
  neighbor HOSTS route-reflector-client
  neighbor HOSTS next-hop-self force
""")
    internal = CONFIG.replace("65201", '"internal"')
    (tmp_path / "bgpd2.toml").write_text(internal.replace("10.255.1.1", "10.255.1.2").replace("10.0.11.0", "10.0.21.0"))
    topology = TOPOLOGY.replace(
        'leaf1: {kind: linux, labels: {role: leaf, announces: "198.51.100.0/24"}}',
        "leaf1: {kind: linux, binds: [frr.conf:/etc/frr/frr.conf]}",
    )
    topology = topology.replace("\n    pod1:", HOST2)
    topology += '    - endpoints: ["leaf1:eth2", "host2:eth0"]\n    - endpoints: ["host2:pod1", "pod1:eth1"]\n'
    of_host2 = "10.64.2.1/32"

    def look(fabric: Fabric) -> object:
        route = fabric.routers["leaf1"].best[of_host2]
        wrong = Packets(fabric, of_host2).wrong_from("host1")
        return wrong, route.is_internal, route.as_path, route.originator

    topology = written(tmp_path, topology=topology, config=internal)
    report, seen = watched(topology, [Step(do="restart", node="leaf1")], look)
    assert wrong(report) == []
    assert report.not_simulated == []
    assert seen == [([], True, (), bytes((10, 255, 1, 2)))] * 2


# Errors


@pytest.mark.parametrize(
    ("topology", "text", "says"),
    [
        (FEEDS, 'do = "drian"', 'nothing that can be done; did you mean "drain"? one of: link-down, link-up,'),
        (FEEDS, 'do = "dye"', "one of: link-down, link-up,"),
        (FEEDS, 'do = "drain"\nnodde = "host1"', 'drain has no key "nodde"; did you mean "node"? one of: do, after_s'),
        (FEEDS, 'do = "drain"\nnode = "x"', 'no router "x"; one of: host1, host2, leaf1, leaf2'),
        (FEEDS, 'do = "bfd-dies"\nnode = "host1"', "host1 has no BFD; one of its neighbors needs bfd"),
        (FAULTS, 'do = "broker-dies"', "there is no broker; a host needs [workload.mqtt]"),
        (FAULTS, 'do = "unpublish"\nnode = "host1"\ntopic = "services/web"', "host1 takes no messages"),
        (FEEDS, 'do = "unpublish"\nnode = "host1"\ntopic = "web"', 'topic = "web" is none; such as "services/web"'),
        (
            FEEDS,
            'do = "publish"\nnode = "host1"\ntopic = "services/web"\nfile = "bad.json"',
            "bad.json is no message of services: ",
        ),
        (
            EVPN,
            'do = "release"\nnode = "host1"\naddress = "10.9.9.9"\nvrf = "green"',
            'no VRF "green"; one of: blue, red',
        ),
        (EVPN, 'do = "claim"\nnode = "host1"\naddress = "10.9.9.9"\nmac = "x"', 'mac = "x" is none; such as'),
    ],
)
def test_errors_of_steps_list_what_there_is(topology: str, text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(f"[[step]]\n{text}\n")
    (tmp_path / "bad.json").write_text('{"addresses": ["x"]}')
    with pytest.raises(ImportFailed) as failed:
        simulate(
            read_topology(topology),
            lambda fabric: read_steps(str(path), fabric),
            seed=0,
            began=lambda _built: None,
            told=lambda _report: None,
        )
    assert says in str(failed.value)
