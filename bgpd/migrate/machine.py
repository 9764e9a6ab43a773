"""What `bgpd init` sees of a machine: interfaces, addresses, default routes, who routes here already, who is next door.

It only looks. What could not be seen, without the rights or the program for it, is said in `unseen`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bgpd.kernel.link_messages import encode_dump_request, read_address, read_link
from bgpd.kernel.loopback import loopback_of
from bgpd.kernel.netlink import DumpInterrupted, MessageKind, dump, messages, open_socket
from bgpd.kernel.route_decoder import read_runs
from bgpd.kernel.route_messages import encode_route_dump_request
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import Address, Link
from bgpd.model.prefix import format_address
from bgpd.speaker.lldp import PROGRAM, read_lldp

BGP_PORT = 179
MAIN_TABLE = 254
_TRIES = 5
_LISTENING = "0A"
_MOST_PROCESSES = 200_000
_DEFAULT_KEY = b"\0"


class Port(msgspec.Struct):
    """An interface. `speed_mbps` is 0 where the driver does not say; `is_physical`: it has a device below it.

    `lldp` is the name of the neighbor that LLDP heard, `router` the address of one whose router advertisement was.
    """

    link: Link
    addresses: list[Address] = []
    speed_mbps: int = 0
    is_physical: bool = False
    is_member: bool = False
    lldp: str = ""
    router: str = ""


class DefaultRoute(msgspec.Struct, frozen=True):
    """A default route of the main table: interface, gateway ("" if none), who wrote it, its metric."""

    family: Family
    interface: str
    gateway: str
    protocol: int
    metric: int


class Machine(msgspec.Struct):
    """All that was seen. `protocols` counts routes of the main table by rtproto, `metrics` by rtproto and metric."""

    hostname: str = ""
    loopback4: str = ""
    loopback6: str = ""
    ports: list[Port] = []
    defaults: list[DefaultRoute] = []
    protocols: Counter[int] = Counter()
    metrics: Counter[tuple[int, int]] = Counter()
    programs: dict[str, str] = {}
    listeners: list[str] = []
    files: list[tuple[str, str]] = []
    unseen: list[str] = []

    def port(self, name: str) -> Port | None:
        """The interface of that name."""
        return next((port for port in self.ports if port.link.name == name), None)


PROGRAMS = {
    "bird": "BIRD", "bird6": "BIRD", "zebra": "FRR", "watchfrr": "FRR", "gobgpd": "GoBGP", "exabgp": "ExaBGP",
    "calico-node": "Calico", "cilium-agent": "Cilium", "kube-proxy": "kube-proxy", "kubelet": "Kubernetes",
    "libvirtd": "libvirt", "virtqemud": "libvirt", "lldpd": "lldpd", "speaker": "MetalLB", "openbgpd": "OpenBGPD",
}  # fmt: skip
"""Names of processes, and what they are of."""
CONFIGURATIONS = (
    ("frr", "/etc/frr/frr.conf"),
    ("bird", "/etc/bird/bird.conf"),
    ("bird", "/etc/bird.conf"),
    ("gobgp", "/etc/gobgp/gobgpd.conf"),
    ("gobgp", "/etc/gobgpd.conf"),
)
"""Where distributions put configurations that `bgpd import` reads."""
SOCKETS = {
    "/run/bird/bird.ctl": "BIRD",
    "/run/frr/bgpd.vty": "FRR",
    "/var/run/calico/bird.ctl": "Calico",
    "/run/cilium/cilium.sock": "Cilium",
}


def look(root: Path = Path("/")) -> Machine:
    """Look at this machine; `root` has its /proc, /sys, /etc and /run. Network: that of this process's namespace."""
    machine = Machine(hostname=socket.gethostname().partition(".")[0])
    try:
        _look_at_links(machine, root)
        _look_at_routes(machine)
    except OSError as error:
        machine.unseen.append(f"interfaces and routes: {error.strerror or error}")
    _look_at_processes(machine, root)
    _look_at_listeners(machine, root)
    for file, program in SOCKETS.items():
        if _is_there(root / file.lstrip("/"), machine):
            machine.programs.setdefault(program, f"socket {file}")
    for kind, file in CONFIGURATIONS:
        if _is_there(root / file.lstrip("/"), machine):
            machine.files.append((kind, str(root / file.lstrip("/"))))
    _ask_lldp(machine)
    return machine


def _is_there(file: Path, machine: Machine) -> bool:
    try:
        return file.exists()
    except OSError as error:
        machine.unseen.append(f"{file}: {error.strerror}")
        return False


def _look_at_links(machine: Machine, root: Path) -> None:
    links = [read_link(data, start, end, lambda index: "") for data, start, end in _dump(MessageKind.GET_LINK)]
    addresses = [read_address(data, start, end) for data, start, end in _dump(MessageKind.GET_ADDRESS)]
    for link in sorted(links, key=lambda one: one.name):
        folder = root / "sys/class/net" / link.name
        port = Port(link, [one for one in addresses if one.index == link.index])
        port.is_physical = _is_there(folder / "device", machine)
        port.is_member = _is_there(folder / "master", machine)
        port.speed_mbps = _number_in(folder / "speed")
        machine.ports.append(port)
    found = loopback_of(links, addresses)
    machine.loopback4 = format_address(found.ipv4) if found.ipv4 else ""
    machine.loopback6 = format_address(found.ipv6) if found.ipv6 else ""


def _dump(kind: MessageKind) -> Iterator[tuple[bytes, int, int]]:
    wanted = {MessageKind.GET_LINK: MessageKind.NEW_LINK, MessageKind.GET_ADDRESS: MessageKind.NEW_ADDRESS}[kind]
    found: list[tuple[bytes, int, int]] = []
    with open_socket() as opened:
        opened.settimeout(30)
        for _ in range(_TRIES):
            try:
                found = [
                    (data, start, end)
                    for data in dump(opened, encode_dump_request(kind))
                    for answer, _flags, _sequence, start, end in messages(data)
                    if answer == wanted
                ]
            except DumpInterrupted:
                continue
            return iter(found)
    raise OSError("they changed all the time")


def _look_at_routes(machine: Machine) -> None:
    names = {port.link.index: port.link.name for port in machine.ports}
    with open_socket(strict=True) as opened:
        opened.settimeout(30)
        for family in UNICAST:
            for _ in range(_TRIES):
                try:
                    datagrams = list(dump(opened, encode_route_dump_request(family, table=MAIN_TABLE)))
                except DumpInterrupted:
                    continue
                _note_routes(machine, family, datagrams, names)
                break


def _note_routes(machine: Machine, family: Family, datagrams: list[bytes], names: dict[int, str]) -> None:
    for run in (run for data in datagrams for run in read_runs(data)):
        machine.protocols[run.protocol] += len(run.keys)
        for metric, count in Counter(run.metrics).items():
            machine.metrics[run.protocol, metric] += count
        for index, key in enumerate(run.keys):
            if key != _DEFAULT_KEY:
                continue
            interface = names.get(run.interfaces[index], "") if index < len(run.interfaces) else ""
            gateway = run.gateways[index] if index < len(run.gateways) else b""
            text = format_address(gateway) if gateway else ""
            machine.defaults.append(DefaultRoute(family, interface, text, run.protocol, run.metrics[index]))


def _look_at_processes(machine: Machine, root: Path) -> None:
    """Programs of this network namespace, by the names of their processes."""
    own = _namespace(root / "proc/self")
    for folder in _processes(root):
        name = _first_line(folder / "comm")
        command = _command(folder)
        program = PROGRAMS.get(name, "")
        if name == "bgpd" and not any("python" in word or word.endswith("/bgpd/bin/bgpd") for word in command[:2]):
            program = "FRR"
        elif name == "bgpd" or (command[1:2] and command[1].endswith("bin/bgpd")):
            program = "bgpd"
        elif not program and any(word.endswith("exabgp") for word in command[:3]):
            program = "ExaBGP"
        elif program == "BIRD" and any("calico" in word for word in command):
            program = "Calico"
        if program and own and _namespace(folder) in (own, ""):
            machine.programs.setdefault(program, f"process {name}, pid {folder.name}")


def _processes(root: Path) -> Iterator[Path]:
    try:
        names = [name for name in os.listdir(root / "proc") if name.isdecimal()]
    except OSError:
        return
    for name in sorted(names, key=int)[:_MOST_PROCESSES]:
        if int(name) != os.getpid():
            yield root / "proc" / name


def _namespace(folder: Path) -> str:
    try:
        return os.readlink(folder / "ns/net")
    except OSError:
        return ""


def _command(folder: Path) -> list[str]:
    try:
        with open(folder / "cmdline", "rb") as opened:
            return [word.decode(errors="replace") for word in opened.read(4096).split(b"\0")]
    except OSError:
        return []


def _first_line(file: Path) -> str:
    try:
        with open(file, "rb") as opened:
            return opened.read(256).decode(errors="replace").strip()
    except OSError:
        return ""


def _number_in(file: Path) -> int:
    text = _first_line(file)
    return int(text) if text.isdecimal() else 0


def _look_at_listeners(machine: Machine, root: Path) -> None:
    """Who listens on BGP's port."""
    inodes: dict[str, str] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = (root / "proc/self/net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if len(fields) > 9 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == BGP_PORT:
                inodes[fields[9]] = _listening_address(fields[1].rpartition(":")[0])
    if not inodes:
        return
    owners = _owners(inodes, root)
    for inode, address in inodes.items():
        owner = owners.get(inode, "a program that cannot be seen without root")
        text = f"{owner} listens on {address} port {BGP_PORT}"
        if text not in machine.listeners:
            machine.listeners.append(text)


def _listening_address(text: str) -> str:
    words = [struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _owners(inodes: dict[str, str], root: Path) -> dict[str, str]:
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, str] = {}
    for folder in _processes(root):
        try:
            for name in os.listdir(folder / "fd"):
                inode = wanted.get(os.readlink(folder / "fd" / name))
                if inode is not None:
                    found.setdefault(inode, f"{_first_line(folder / 'comm')} (pid {folder.name})")
        except OSError:
            continue
        if len(found) == len(wanted):
            break
    return found


def _ask_lldp(machine: Machine) -> None:
    found, why = asyncio.run(read_lldp())
    if why or not found:
        machine.unseen.append(f"neighbors by LLDP: {why or f'{PROGRAM} is not there, or has heard nobody'}")
    for port in machine.ports:
        port.lldp = next(iter(found.get(port.link.name, ())), "")
