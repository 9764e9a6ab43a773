"""What is seen of processes, sockets and LLDP, over a scripted /proc and scripted answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgpd.migrate import machine as machine_module
from bgpd.migrate.machine import Machine, Port, look
from bgpd.model.kernel import Link

TCP = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 0100007F:00B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"
    "   1: 0100007F:00B3 0200007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n"
    "   2: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n"
    "garbage\n"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with nothing in it but this process, without lldpcli."""
    (tmp_path / "proc/self/net").mkdir(parents=True)
    (tmp_path / "proc/self/ns").mkdir()
    (tmp_path / "proc/self/ns/net").symlink_to("net:[1]")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def process(root: Path, pid: int, name: str, *command: str, namespace: int = 1, inode: int = 0) -> None:
    folder = root / f"proc/{pid}"
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/net").symlink_to(f"net:[{namespace}]")
    (folder / "comm").write_text(f"{name}\n")
    (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in command) + b"\0")
    if inode:
        (folder / "fd").mkdir()
        (folder / "fd/3").symlink_to(f"socket:[{inode}]")


def test_programs_are_told_apart_and_those_of_other_namespaces_are_none_of_ours(root: Path) -> None:
    process(root, 11, "bird", "/usr/sbin/bird")
    process(root, 12, "bgpd", "/usr/lib/frr/bgpd", "-A", "127.0.0.1")
    process(root, 13, "gobgpd", "gobgpd", namespace=2)
    process(root, 14, "python3", "/usr/bin/python3", "/usr/sbin/exabgp", "x.conf")
    process(root, 15, "bgpd", "/opt/bgpd/bin/python", "/opt/bgpd/bin/bgpd", "run")
    process(root, 16, "lldpd", "lldpd")
    found = look(root).programs
    assert found["BIRD"] == "process bird, pid 11"
    assert found["FRR"] == "process bgpd, pid 12"
    assert found["ExaBGP"] == "process python3, pid 14"
    assert found["bgpd"] == "process bgpd, pid 15"
    assert found.keys() == {"BIRD", "FRR", "ExaBGP", "bgpd", "lldpd"}


def test_calicos_bird_is_calicos(root: Path) -> None:
    process(root, 11, "bird", "bird", "-R", "-s", "/var/run/calico/bird.ctl")
    assert look(root).programs.keys() == {"Calico"}


def test_who_listens_on_the_port_of_bgp(root: Path) -> None:
    (root / "proc/self/net/tcp").write_text(TCP)
    (root / "proc/self/net/tcp6").write_text(TCP.replace("0100007F:00B3", f"{'0' * 32}:00B3").replace("4711", "4714"))
    process(root, 11, "gobgpd", "gobgpd", inode=4711)
    assert look(root).listeners == [
        "gobgpd (pid 11) listens on 127.0.0.1 port 179",
        "a program that cannot be seen without root listens on :: port 179",
    ]


def test_configurations_and_sockets_are_found(root: Path) -> None:
    for file in ("etc/frr/frr.conf", "run/bird/bird.ctl"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("")
    seen = look(root)
    assert seen.files == [("frr", str(root / "etc/frr/frr.conf"))]
    assert seen.programs["BIRD"] == "socket /run/bird/bird.ctl"


@pytest.mark.parametrize(
    ("answer", "name", "said"),
    [
        (({"lo": ("leaf1", "leaf2")}, ""), "leaf1", []),
        (({}, ""), "", ["neighbors by LLDP: lldpcli is not there, or has heard nobody"]),
        (({}, "lldpcli ended with 1"), "", ["neighbors by LLDP: lldpcli ended with 1"]),
    ],
)
def test_lldp_is_asked(
    answer: tuple[dict[str, tuple[str, ...]], str], name: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read() -> tuple[dict[str, tuple[str, ...]], str]:
        return answer

    monkeypatch.setattr(machine_module, "read_lldp", read)
    seen = Machine(ports=[Port(Link(index=1, name="lo", up=True))])
    machine_module._ask_lldp(seen)
    assert (seen.ports[0].lldp, seen.unseen) == (name, said)


def test_without_proc_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    seen = look(tmp_path / "nowhere")
    assert (seen.programs, seen.listeners) == ({}, [])
    assert os.path.exists("/proc/self"), "what the kernel says of links does not come from there"
    assert [port.link.name for port in seen.ports].count("lo") == 1
