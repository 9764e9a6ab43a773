"""expect_hostname: a leaf that is not the expected one is told at once, and keeps its session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.daemon.fabric import Fabric, Host, config, leaf
from tests.daemon.wire_peer import WirePeer

pytestmark = pytest.mark.netns

FIELDS: dict[str, object] = {"families": ["ipv4-unicast"], "hold_time_s": 90}


def fqdn(host: bytes, domain: bytes) -> bytes:
    """The FQDN capability."""
    value = b"".join(bytes((len(part),)) + part for part in (host, domain))
    return bytes((73, len(value))) + value


class LldpHost(Host):
    """bgpd on the host, with a program in the place of lldpcli."""

    def start(self, *, wait: bool = True) -> None:
        self.bin: Path = self.directory / "bin"
        self.bin.mkdir(mode=0o755, exist_ok=True)
        self.lldp("{}")
        kept, self.program = self.program, ["env", f"PATH={self.bin}:/usr/bin:/bin", *self.program]
        super().start(wait=wait)
        self.program = kept

    def lldp(self, answer: str) -> None:
        (self.bin / "answer").write_text(answer)
        script = self.bin / "lldpcli"
        script.write_text(f"#!/bin/sh\ncat {self.bin}/answer\n")
        script.chmod(0o755)

    def hears(self, **names: str) -> None:
        self.lldp(
            json.dumps(
                {"lldp": {"interface": [{port: {"chassis": {name: {"id": {}}}}} for port, name in names.items()]}}
            )
        )


def test_a_leaf_with_another_name_is_told_and_keeps_its_session(fabric: Fabric) -> None:
    first = leaf(1, **FIELDS, expect_hostname="leaf1")
    second = leaf(2, **FIELDS, expect_hostname="leaf2")
    with (
        WirePeer(fabric.leaf1) as peer1,
        WirePeer(fabric.leaf2, "10.0.2.2", asn=65202) as peer2,
        LldpHost(fabric.host, config(first, second)) as host,
    ):
        with peer1.establish(hold_time_s=90, more=fqdn(b"\xff\xfe leaf1", b"")):
            host.wait(lambda: host.neighbor("leaf1")["state"] == "established", "a session for all that")
            assert host.neighbor("leaf1")["expectation"] == "not-told", "bytes that are no name tell none"
        one = peer1.establish(hold_time_s=90, more=fqdn(b"leaf9", b"example"))
        two = peer2.establish(hold_time_s=90, more=fqdn(b"LEAF2", b"example"))
        with one, two:
            host.wait_established("leaf1", "leaf2")
            host.wait(lambda: host.neighbor("leaf1")["expectation"] == "unmet", "leaf1 to be another")
            assert host.neighbor("leaf2")["expectation"] == "met"
            (warning,) = [text for text in host.health()["warnings"] if "plugged" in text]
            assert "neighbor leaf1 is leaf9.example by BGP, and leaf1 is expected" in warning
            assert host.metric("bgpd_neighbor_hostname_unexpected", neighbor="leaf1") == 1
            assert host.metric("bgpd_neighbor_hostname_unexpected", neighbor="leaf2") == 0
            assert "expected leaf1" in host.cli("show", "neighbors")
            (line,) = host.log("neighbor.unexpected_hostname")
            assert (line["neighbor"], line["bgp"], line["expected"]) == ("leaf1", "leaf9.example", "leaf1")

            flaps = host.neighbor("leaf1")["flaps"]
            host.hears(eth0="leaf9", eth1="leaf7")
            host.reload_with(leaf(1, **FIELDS, expect_hostname="leaf*"), second)
            assert host.neighbor("leaf1")["expectation"] == "met"
            assert host.neighbor("leaf1")["flaps"] == flaps, "it is no matter of the session"
        with peer1.establish(hold_time_s=90, more=fqdn(b"leaf9", b"")):
            host.wait(lambda: host.neighbor("leaf2")["lldp_hostname"] == "leaf7", "LLDP to be read again", timeout_s=30)
            assert host.neighbor("leaf2")["expectation"] == "unmet", "also without a session"
            assert host.neighbor("leaf1")["expectation"] == "met"
            host.lldp("no JSON")
        with peer1.establish(hold_time_s=90):
            host.wait(lambda: any("lldpcli" in text for text in host.health()["warnings"]), "the problem", timeout_s=30)
            host.wait_established("leaf1")
