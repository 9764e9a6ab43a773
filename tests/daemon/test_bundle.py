"""A bundle of a running host has what it knows, as JSON that can be read."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from labs.daemons import Frr
from tests.daemon.fabric import Fabric, leaf, started

pytestmark = pytest.mark.netns


def parts_of(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        return {
            member.name.removeprefix("bgpd-bundle/"): content.read().decode()
            for member in archive.getmembers()
            if (content := archive.extractfile(member)) is not None
        }


def test_bundle_of_a_running_host(fabric: Fabric, frr: Frr, tmp_path: Path) -> None:
    with started(fabric, leaf(1)) as host:
        host.wait_established("leaf1")
        host.wait_hops("10.9.0.0/16", "10.0.1.2%eth0")
        assert "bytes" in host.cli("bundle", str(tmp_path / "b.tar.gz"))
        parts = parts_of(tmp_path / "b.tar.gz")
        assert json.loads(parts["neighbors.json"])[0]["state"] == "established"
        assert [route["prefix"] for route in json.loads(parts["fib.json"])] == ["10.9.0.0/16"]
        assert "session.established" in parts["events.json"]
        assert json.loads(parts["config.json"])["router"]["asn"] == 65203
        for name, text in parts.items():
            if name.endswith(".json"):
                json.loads(text)
