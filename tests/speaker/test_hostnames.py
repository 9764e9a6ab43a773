"""Whether neighbors are those that are expected, and what LLDP says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.config.schema_sessions import NeighborConfig
from bgpd.kernel.host import Host
from bgpd.model.kernel import Link
from bgpd.speaker import lldp
from bgpd.speaker.hostnames import Expectation, Hostnames, full_name, is_expected, printable
from bgpd.speaker.lldp import parse_lldp, read_lldp
from tests.logs import capture_logs

CHASSIS = {"id": {"type": "mac", "value": "00:00:00:00:00:01"}, "descr": "SONiC"}


@pytest.mark.parametrize(
    ("expected", "name", "same"),
    [
        ("leaf1", "leaf1", True),
        ("leaf1", "LEAF1", True),
        ("leaf1", "leaf1.example", True),
        ("leaf1.example", "leaf1", True),
        ("leaf1.example", "leaf1.example.", True),
        ("leaf1.example", "leaf1.other", False),
        ("leaf1", "leaf10", False),
        ("leaf1", "leaf2.leaf1", False),
        ("leaf*", "leaf7.example", True),
        ("leaf*", "spine1", False),
        ("leaf[12]", "leaf3", False),
        ("leaf1", "\x1b[31mleaf1", False),
        ("leaf1", "l" * 255, False),
    ],
)
def test_names_with_and_without_a_domain(expected: str, name: str, same: bool) -> None:
    assert is_expected(expected, name) is same


def test_the_domain_of_a_capability_belongs_to_the_name() -> None:
    assert full_name("leaf1", "example") == "leaf1.example"
    assert full_name("leaf1.example", "example") == "leaf1.example"
    assert full_name("", "example") == ""
    assert printable("leaf\n1\x00" + "x" * 300).startswith("leaf?1?xxx")
    assert len(printable("x" * 300)) == 255


def shown(**interfaces: Any) -> str:
    return json.dumps({"lldp": {"interface": [{name: heard} for name, heard in interfaces.items()]}})


def test_lldp_as_json_and_json0_and_of_one_or_more_interfaces() -> None:
    text = shown(eth0={"via": "LLDP", "chassis": {"leaf1": CHASSIS}}, eth1={"chassis": {"leaf2": CHASSIS}})
    assert parse_lldp(text) == {"eth0": ("leaf1",), "eth1": ("leaf2",)}
    one = {"lldp": {"interface": {"eth0": {"chassis": {"leaf1": CHASSIS}}}}}
    assert parse_lldp(json.dumps(one)) == {"eth0": ("leaf1",)}
    twice = {"lldp": {"interface": [{"eth0": {"chassis": {"a": CHASSIS}}}, {"eth0": {"chassis": {"b": CHASSIS}}}]}}
    assert parse_lldp(json.dumps(twice)) == {"eth0": ("a", "b")}
    json0 = {"lldp": [{"interface": [{"name": "eth0", "chassis": [{"id": [{}], "name": [{"value": "leaf1"}]}]}]}]}
    assert parse_lldp(json.dumps(json0)) == {"eth0": ("leaf1",)}
    assert parse_lldp(shown(eth0={"chassis": CHASSIS})) == {}, "a system without a name"
    assert parse_lldp('{"lldp": {}}') == {}


@pytest.mark.parametrize("text", ["", "lldpd is not running", "[" * 100_000, '{"lldp": '])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        parse_lldp(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["name", "eth0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["lldp", "interface", "chassis", "name", "value", "eth0", "id"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_read_without_a_fault(value: Any) -> None:
    for text in (json.dumps(value), json.dumps({"lldp": {"interface": value}})):
        for interface, names in parse_lldp(text).items():
            assert isinstance(interface, str)
            assert all(isinstance(name, str) and name for name in names)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in the place of lldpcli."""
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(script: str) -> None:
        path = tmp_path / "lldpcli"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


async def test_the_program_is_asked_and_may_fail_in_any_way(
    program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(f"echo '{shown(eth0={'chassis': {'leaf1': CHASSIS}})}'")
    assert await read_lldp() == ({"eth0": ("leaf1",)}, "")
    program('[ "$*" = "-f json show neighbors" ] && grep -q "CapEff:.*0000000000000000" /proc/$$/status && echo "{}"')
    assert await read_lldp() == ({}, ""), "it has no capability"
    program("echo no access >&2; exit 1")
    assert "ended with 1" in (await read_lldp())[1]
    program("echo garbage")
    assert "printed no JSON" in (await read_lldp())[1]
    program("head -c 100000000 /dev/zero; sleep 60")
    assert "printed no JSON" in (await read_lldp())[1] or "has not answered" in (await read_lldp())[1]
    monkeypatch.setattr(lldp, "_PATIENCE_S", 0.2)
    program("sleep 60 & sleep 60")
    assert "has not answered within 0.2 s" in (await read_lldp())[1]
    (tmp_path / "lldpcli").chmod(0o777)
    assert "can be written by others" in (await read_lldp())[1]
    (tmp_path / "lldpcli").chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(lldp, "ENVIRONMENT", {"PATH": str(tmp_path)})
    assert await read_lldp() == ({}, ""), "it is not installed: nothing to tell"
    (tmp_path / "lldpcli").unlink()
    (tmp_path / "lldpcli").mkdir()
    assert await read_lldp() == ({}, ""), "a directory of that name is no program"


class Known(list[Any]):
    """The neighbors that there are."""

    def named(self, name: str) -> Any:
        return next((one for one in self if one.peering.name == name), None)


class Rig:
    """Neighbors as Hostnames sees them."""

    def __init__(self) -> None:
        self.host = Host(lambda event: None)
        self.host.link(Link(index=2, name="eth0", up=True))
        self.host.link(Link(index=3, name="eth0.101", up=True, kind="vlan", parent=2))
        self.heard: dict[str, tuple[str, ...]] = {}
        self.problem = ""
        self.neighbors = Known()
        self.names = Hostnames(self.neighbors, self.host, read=self._read)  # type: ignore[arg-type]

    async def _read(self) -> tuple[dict[str, tuple[str, ...]], str]:
        return self.heard, self.problem

    def neighbor(self, expected: str, *, interface: str = "eth0", name: str = "leaf1") -> Any:
        config = NeighborConfig(name=name, interface=interface, asn="external", import_="all", expect_hostname=expected)
        found = SimpleNamespace(peering=SimpleNamespace(name=name, config=config), path=interface, exchange=None)
        self.neighbors.append(found)
        return found

    def says(self, neighbor: Any, host: str, domain: str = "") -> None:
        neighbor.exchange = SimpleNamespace(negotiated=SimpleNamespace(hostname=host, domain=domain))
        self.names.session_changed(neighbor.peering.name)


async def test_another_name_is_warned_of_once_and_its_end_is_told() -> None:
    rig = Rig()
    leaf = rig.neighbor("leaf1")
    with capture_logs() as lines:
        rig.names.look()
        assert rig.names.verdict(leaf).state is Expectation.NOT_TOLD
        rig.says(leaf, "leaf2", "example")
        for _ in range(3):
            rig.names.look()
        leaf.exchange = None
        rig.names.session_changed("leaf1")
        rig.says(leaf, "leaf2", "example")
    assert [line["event"] for line in lines] == ["neighbor.unexpected_hostname"]
    assert lines[0] == lines[0] | {"neighbor": "leaf1", "expected": "leaf1", "bgp": "leaf2.example", "lldp": ""}
    assert rig.names.warnings() == [
        "neighbor leaf1 is leaf2.example by BGP, and leaf1 is expected: is it plugged in wrongly?"
    ]
    with capture_logs() as lines:
        rig.says(leaf, "leaf1", "example")
    assert [line["event"] for line in lines] == ["neighbor.expected_hostname"]
    assert rig.names.warnings() == []


async def test_lldp_that_does_not_answer_now_and_then_is_no_news_of_a_wrong_neighbor() -> None:
    rig = Rig()
    leaf = rig.neighbor("leaf1")
    with capture_logs() as lines:
        rig.says(leaf, "leaf2")
        for _ in range(3):
            rig.heard, rig.problem = {"eth0": ("leaf3",)}, ""
            await rig.names._read_lldp()
            rig.heard, rig.problem = {}, "lldpcli has not answered"
            await rig.names._read_lldp()
        rig.heard, rig.problem = {"eth0": ("leaf4",)}, ""
        await rig.names._read_lldp()
    told = [(line["bgp"], line["lldp"]) for line in lines if line["event"] == "neighbor.unexpected_hostname"]
    assert told == [("leaf2", ""), ("leaf2", "leaf3"), ("leaf2", "leaf4")]


async def test_lldp_tells_before_a_session_and_both_have_to_agree() -> None:
    rig = Rig()
    leaf = rig.neighbor("leaf1")
    rig.heard = {"eth0": ("leaf2",)}
    await rig.names._read_lldp()
    assert rig.names.verdict(leaf).state is Expectation.UNMET
    assert "is leaf2 by LLDP" in rig.names.warnings()[0]
    rig.says(leaf, "leaf1")
    assert rig.names.verdict(leaf).text == "leaf1 by BGP and leaf2 by LLDP"
    assert rig.names.verdict(leaf).state is Expectation.UNMET
    rig.heard = {"eth0": ("other", "leaf1")}
    await rig.names._read_lldp()
    assert rig.names.verdict(leaf).state is Expectation.MET, "of several systems on a link one is the leaf"


async def test_a_neighbor_without_a_name_is_not_told_and_a_link_that_goes_forgets_the_name() -> None:
    rig = Rig()
    leaf = rig.neighbor("leaf1")
    rig.says(leaf, "")
    assert rig.names.verdict(leaf).state is Expectation.NOT_TOLD
    rig.says(leaf, "leaf2")
    assert rig.names.verdict(leaf).state is Expectation.UNMET
    leaf.exchange = None
    rig.host.link(Link(index=2, name="eth0", up=False))
    assert rig.names.verdict(leaf).state is Expectation.NOT_TOLD, "what is plugged in next may be another"


async def test_lldp_of_a_vlan_is_heard_on_the_port_below() -> None:
    rig = Rig()
    leaf = rig.neighbor("leaf1", interface="eth0.101")
    rig.heard = {"eth0": ("leaf1",)}
    await rig.names._read_lldp()
    assert rig.names.verdict(leaf).state is Expectation.MET


async def test_why_lldp_does_not_answer_is_told_where_somebody_is_expected() -> None:
    rig = Rig()
    rig.problem = "lldpcli has not answered within 3 s"
    rig.neighbor("")
    await rig.names._read_lldp()
    assert rig.names.warnings() == []
    rig.neighbor("leaf2", name="leaf2")
    assert rig.names.warnings() == [rig.problem]


async def test_what_was_kept_of_neighbors_goes_with_them() -> None:
    rig = Rig()
    leaf = rig.neighbor("leaf1")
    rig.says(leaf, "leaf2")
    rig.neighbors.clear()
    rig.names.look()
    assert not rig.names._told
    assert not rig.names._reported
