"""Reads a containerlab topology (*.clab.yml) as far as a simulation is concerned: nodes with what is bound into them
and run in them, and links. What else such a file has (images, ports, startup order) makes no difference here."""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bgpd.migrate.draft import ImportFailed, Place
from bgpd.migrate.yaml_documents import Mapping, read_documents

BGPD_CONFIG, FRR_CONFIG = "/etc/bgpd/bgpd.toml", "/etc/frr/frr.conf"
EOS_KINDS = ("ceos", "arista_ceos", "veos", "vr-veos", "arista_veos")
"""Kinds of containerlab whose startup-config is of Arista EOS."""
_NO_ROUTERS = ("", "linux", "host", "bridge", "ovs-bridge", "ext-container", "k8s-kind")
"""Kinds of containerlab that are no routers by themselves."""
_ROUTER_IMAGES = ("frr", "bird", "gobgp", "openbgpd", "vyos", "sonic", "cumulus")
_ROUTER_ROLES = ("leaf", "spine", "superspine", "tor", "router", "border")
_OUTSIDE = ("host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy")
"""What stands in place of a node where a link leads out of the topology."""
_NODE_NAME = "__clabNodeName__"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::?[=-](?P<default>[^}]*))?\}")
_LAST_VLAN = 4094
MOST_LISTED = 40
"""So many names are told where one is wrong."""


class Interface(msgspec.Struct):
    """`addresses` with their prefix lengths, in order. Of a VLAN its number, and the interface below it."""

    name: str
    addresses: list[str] = []
    vlan: int = 0
    parent: str = ""


class Node(msgspec.Struct, kw_only=True):
    """`routes`: (prefix, interface) that its exec lines lead to an interface without a gateway. `place`: where it
    stands in the file. `startup_config`: the file that containerlab gives its operating system; "" for none."""

    name: str
    place: Place
    kind: str
    image: str
    labels: dict[str, str]
    binds: dict[str, Path]
    interfaces: dict[str, Interface]
    routes: list[tuple[str, str]]
    startup_config: str = ""

    @property
    def eos_config(self) -> Path | None:
        """Its configuration, if it is of Arista EOS; None without."""
        text = self.startup_config.replace(_NODE_NAME, self.name)
        is_file = text and "\n" not in text and "://" not in text
        return Path(self.place.file).parent / text if is_file and self.kind in EOS_KINDS else None

    @property
    def is_host(self) -> bool:
        """Whether it runs bgpd."""
        return BGPD_CONFIG in self.binds

    @property
    def is_router(self) -> bool:
        """Whether it is one, of whatever make."""
        if self.is_host:
            return False
        has_image = any(word in self.image.lower() for word in _ROUTER_IMAGES)
        is_called_one = self.labels.get("role", "").lower() in _ROUTER_ROLES
        return FRR_CONFIG in self.binds or self.kind not in _NO_ROUTERS or has_image or is_called_one


class Joint(msgspec.Struct, frozen=True):
    """A link: (node, interface) of both ends."""

    place: Place
    ends: tuple[tuple[str, str], tuple[str, str]]


class Topology(msgspec.Struct, kw_only=True):
    """`outside`: links that lead out of it, in words."""

    name: str
    file: str
    nodes: dict[str, Node]
    links: list[Joint]
    outside: list[str]


def read_topology(file: str) -> Topology:
    """The topology of a file. Raises: ImportFailed: it cannot be read, or is none."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        right = "name a containerlab topology (*.clab.yml)"
        raise ImportFailed(Place(file), f"cannot be read: {error.strerror}", right) from None
    except UnicodeDecodeError:
        raise ImportFailed(Place(file), "is no text in UTF-8", "name a containerlab topology") from None
    documents = read_documents(_VARIABLE.sub(_value_of, text), file)
    if not documents or not documents[0].mapping("topology").mapping("nodes"):
        raise ImportFailed(Place(file), "has no nodes", "write them below topology: nodes: (containerlab.dev)")
    document = documents[0]
    definition = document.mapping("topology")
    nodes = {name: _node(name, definition, Path(file).parent) for name in definition.mapping("nodes")}
    outside: list[str] = []
    links = list(_links(definition, nodes, outside))
    return Topology(name=document.text("name") or Path(file).stem, file=file, nodes=nodes, links=links, outside=outside)


def _node(name: str, topology: Mapping, folder: Path) -> Node:
    """A node with what its kind, its group and the defaults say where it says nothing; lists are joined."""
    own = topology.mapping("nodes").mapping(name)
    defaults = topology.mapping("defaults")
    kind = own.text("kind") or defaults.text("kind")
    group = own.text("group")
    groups = topology.mapping("groups")
    if group and group not in groups:
        raise ImportFailed(own.at("group"), f'there is no group "{group}"', listed(groups) or "write it below groups:")
    layers = [defaults, topology.mapping("kinds").mapping(kind)]
    layers += [groups.mapping(group)] if group else []
    layers.append(own)
    made = Node(
        name=name,
        place=topology.mapping("nodes").at(name),
        kind=kind,
        image=next((text for layer in reversed(layers) if (text := layer.text("image"))), ""),
        labels={key: layer.mapping("labels").text(key) for layer in layers for key in layer.mapping("labels")},
        binds={inside: path for layer in layers for inside, path in _binds(layer, folder, name)},
        interfaces={},
        routes=[],
        startup_config=next((text for layer in reversed(layers) if (text := layer.text("startup-config"))), ""),
    )
    for layer in layers:
        for line in layer.texts("exec"):
            _carry_out(made, line, layer.at("exec"))
    return made


def _binds(layer: Mapping, folder: Path, node: str) -> Iterator[tuple[str, Path]]:
    """What is bound where; of the folder of a configuration that is bound as a whole, the configuration."""
    for text in layer.texts("binds"):
        source, _, rest = text.replace(_NODE_NAME, node).partition(":")
        inside, path = rest.partition(":")[0].rstrip("/"), folder / source
        for config in (BGPD_CONFIG, FRR_CONFIG):
            if inside == str(Path(config).parent) and (path / Path(config).name).is_file():
                yield config, path / Path(config).name
        if inside in (BGPD_CONFIG, FRR_CONFIG) and not path.is_file():
            right = f"a bind is FILE:{inside}, seen from the folder of the topology"
            raise ImportFailed(layer.at("binds"), f'there is no file "{path}" to be bound', right)
        yield inside, path


def _value_of(variable: re.Match[str]) -> str:
    """As containerlab does with ${NAME} and ${NAME:=VALUE}; one that has no value stays as it is."""
    return os.environ.get(variable["name"], variable["default"] or variable[0])


def _carry_out(node: Node, line: str, place: Place) -> None:
    """What an exec line says of interfaces, addresses and routes; all others make no difference."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ImportFailed(place, f'"{line}" is no command: {error}', "close the quotes") from None
    words = [word for word in words if word not in ("-4", "-6")]
    if words[:3] == ["ip", "link", "add"]:
        _add_link(node, words, place)
        return
    if len(words) < 4 or words[0] != "ip" or "dev" not in words[:-1]:
        return
    interface, subject = words[words.index("dev") + 1], words[3]
    is_address = "address".startswith(words[1]) and words[1].startswith("a")
    if words[2] not in ("add", "replace", "a"):
        return
    is_route = "route".startswith(words[1]) and words[1].startswith("r") and "/" in subject
    is_route = is_route and not {"via", "vrf", "table"} & set(words)
    try:
        if is_address:
            ipaddress.ip_interface(subject)
            interface_of(node, interface).addresses.append(subject)
        elif is_route:
            node.routes.append((str(ipaddress.ip_network(subject)), interface))
    except ValueError as error:
        raise ImportFailed(place, f'"{line}": {error}', "write ADDRESS/LENGTH") from None


def _add_link(node: Node, words: list[str], place: Place) -> None:
    """`ip link add [link PARENT] [name] NAME type TYPE`: a VLAN with `id NUMBER`, or something that has no parent."""
    after = dict(itertools.pairwise(words))
    name, number, kind = after.get("name", words[3] if len(words) > 3 else ""), after.get("id", ""), after.get("type")
    if kind != "vlan":
        name = words[4] if words[3:4] == ["name"] and len(words) > 4 else words[3]
        if kind not in (None, "vrf", "macvlan", "ipvlan"):
            interface_of(node, name)
        return
    if "link" not in words[2:-1] or not number:
        return
    parent = words[words.index("link", 2) + 1]
    if not number.isdecimal() or not 1 <= int(number) <= _LAST_VLAN or parent == name:
        what = f'"{" ".join(words)}" makes no VLAN of another interface'
        raise ImportFailed(place, what, "write ip link add link PARENT name NAME type vlan id 1 (to 4094)")
    made = interface_of(node, name)
    made.vlan, made.parent = int(number), parent
    interface_of(node, parent)


def interface_of(node: Node, name: str) -> Interface:
    """An interface of a node, which has it from now on."""
    return node.interfaces.setdefault(name, Interface(name, []))


def listed(names: Iterable[str]) -> str:
    """What there is to choose from, in words; "" for nothing."""
    known = list(names)
    rest = f", and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    return f"one of: {', '.join(known[:MOST_LISTED])}{rest}" if known else ""


def _links(topology: Mapping, nodes: dict[str, Node], outside: list[str]) -> Iterator[Joint]:
    taken: dict[tuple[str, str], Place] = {}
    for link in topology.mappings("links"):
        if "endpoint" in link:
            outside.append(f"{link.at('endpoint')}: leads out of the topology")
            continue
        place = link.at("endpoints")
        ends = [_end(one, place) for one in link.items_of("endpoints")]
        if len(ends) == 1 or any(node in _OUTSIDE and node not in nodes for node, _ in ends):
            outside.append(f"{place}: leads out of the topology")
            continue
        if len(ends) != 2:
            raise ImportFailed(place, "a link has two endpoints", 'write endpoints: ["NODE:INTERFACE", ...]')
        for node, interface in ends:
            if node not in nodes:
                raise ImportFailed(place, f'there is no node "{node}"', listed(nodes))
            if (node, interface) in taken:
                raise ImportFailed(place, f"{node}:{interface} has a link already", f"see {taken[node, interface]}")
            taken[node, interface] = place
            interface_of(nodes[node], interface)
        if ends[0][0] == ends[1][0]:
            raise ImportFailed(place, f"both ends of the link are at {ends[0][0]}", "a link is between two nodes")
        yield Joint(place, (ends[0], ends[1]))


def _end(one: Any, place: Place) -> tuple[str, str]:
    """ "NODE:INTERFACE", or a mapping with both."""
    node, interface = (one.text("node"), one.text("interface")) if isinstance(one, Mapping) else ("", "")
    if not isinstance(one, Mapping):
        node, _, interface = str(one).partition(":")
    if not node or not interface:
        shown = f"node {node!r}, interface {interface!r}" if isinstance(one, Mapping) else f'"{one}"'
        raise ImportFailed(place, f"{shown} is no endpoint", 'write "NODE:INTERFACE"')
    return node, interface
