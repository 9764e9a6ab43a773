"""Reads a containerlab topology file (*.clab.yml) into values that the namespace runner can realise.

Decides what of containerlab's format is understood: kind linux, bound configuration files, exec lines and veth links.
Anything else is an error rather than a silent difference between the two ways to run the file. Starts nothing.
"""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import yaml

from labs.process import LabError

FRR_CONFIG = "/etc/frr/frr.conf"
BGPD_CONFIG = "/etc/bgpd/bgpd.toml"
MOSQUITTO_CONFIG = "/mosquitto/config/mosquitto.conf"
NOTHING_TO_RUN = ("", "sleep")
INTERFACE_NAME_LENGTH = 15


class NodeDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """A node (or the defaults of a kind) as containerlab defines it, as far as the runner understands it."""

    kind: str = ""
    image: str = ""
    network_mode: str = ""
    entrypoint: str = ""
    cmd: str = ""
    labels: dict[str, str] = {}
    binds: tuple[str, ...] = ()
    exec: tuple[str, ...] = ()


class LinkDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A link in containerlab's brief format: two endpoints "NODE:INTERFACE"."""

    endpoints: tuple[str, str]
    mtu: int = 1500


class TopologyDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The `topology` table."""

    nodes: dict[str, NodeDefinition]
    kinds: dict[str, NodeDefinition] = {}
    defaults: NodeDefinition = NodeDefinition()
    links: tuple[LinkDefinition, ...] = ()


class FileDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    name: str
    topology: TopologyDefinition


class Endpoint(msgspec.Struct, frozen=True):
    """One end of a link."""

    node: str
    interface: str


class Link(msgspec.Struct, frozen=True):
    """A veth pair between two nodes."""

    first: Endpoint
    second: Endpoint
    mtu: int


class Node(msgspec.Struct, frozen=True):
    """A node: its labels, the files bound into it (path inside -> path here), the commands that set it up, in words.

    `program` is what it runs besides FRR, bgpd and Mosquitto (entrypoint and cmd), in words; empty if nothing.
    """

    name: str
    labels: dict[str, str]
    binds: dict[str, Path]
    commands: tuple[tuple[str, ...], ...]
    program: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """containerlab's label "role", here "spine", "leaf", "host", "pod", "server" or "broker"."""
        return self.labels.get("role", "")

    @property
    def addresses(self) -> list[str]:
        """The addresses that its exec lines put on its interfaces, without link-local ones and those on lo."""
        added = (words[3:] for words in self.commands if words[:3] == ("ip", "address", "add"))
        found = [words[0].partition("/")[0] for words in added if words[1:3] != ("dev", "lo")]
        return [address for address in found if not address.startswith(("fe80:", "169.254."))]

    @property
    def frr_config(self) -> Path | None:
        """The frr.conf bound into the node; a node that has one runs FRR."""
        return self.binds.get(FRR_CONFIG)

    @property
    def bgpd_config(self) -> Path | None:
        """The bgpd.toml bound into the node; a node that has one runs bgpd."""
        return self.binds.get(BGPD_CONFIG)

    @property
    def mosquitto_config(self) -> Path | None:
        """The mosquitto.conf bound into the node; a node that has one runs Mosquitto."""
        return self.binds.get(MOSQUITTO_CONFIG)


class SubInterface(msgspec.Struct, frozen=True):
    """A VLAN sub-interface that an exec line makes."""

    parent: str
    name: str
    vlan: int


class Topology(msgspec.Struct, frozen=True):
    """A laboratory's nodes and links."""

    name: str
    nodes: dict[str, Node]
    links: tuple[Link, ...]

    def with_role(self, *roles: str) -> list[Node]:
        """The nodes that have one of these roles."""
        return [node for node in self.nodes.values() if node.role in roles]

    def neighbors(self, name: str) -> list[Node]:
        """The nodes that a node has a link to."""
        ends = [(link.first.node, link.second.node) for link in self.links]
        return [self.nodes[second if first == name else first] for first, second in ends if name in (first, second)]

    def vlan_links(self, link: Link) -> list[tuple[Endpoint, Endpoint]]:
        """The pairs of sub-interfaces of one VLAN at the two ends of a link."""
        first = {sub.vlan: sub.name for sub in self._sub_interfaces(link.first)}
        second = {sub.vlan: sub.name for sub in self._sub_interfaces(link.second)}
        return [
            (Endpoint(link.first.node, first[vlan]), Endpoint(link.second.node, second[vlan]))
            for vlan in first
            if vlan in second
        ]

    def _sub_interfaces(self, end: Endpoint) -> list[SubInterface]:
        made = map(sub_interface, self.nodes[end.node].commands)
        return [sub for sub in made if sub is not None and sub.parent == end.interface]

    def link_between(self, first: str, second: str) -> tuple[Endpoint, Endpoint]:
        """The ends of the first link between two nodes, the end at `first` first.

        Raises: LabError: there is none.
        """
        for link in self.links:
            if (link.first.node, link.second.node) == (first, second):
                return link.first, link.second
            if (link.first.node, link.second.node) == (second, first):
                return link.second, link.first
        raise LabError(f"{self.name}: no link between {first} and {second}")


def sub_interface(words: tuple[str, ...]) -> SubInterface | None:
    """What an exec line "ip link add link PARENT name NAME type vlan id VLAN" makes; None if it is another."""
    if words[:4] != ("ip", "link", "add", "link") or words[7:10] != ("type", "vlan", "id") or len(words) != 11:
        return None
    return SubInterface(words[4], words[6], int(words[10]))


def load(path: Path) -> Topology:
    """Read a topology file.

    Raises: LabError: not readable, not YAML, not understood; says the file and what is wrong where.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text())
        file = msgspec.convert(raw, FileDefinition)
        nodes = {name: _node(name, file.topology, path.parent) for name in file.topology.nodes}
        links = tuple(_link(definition, nodes) for definition in file.topology.links)
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError, ValueError) as error:
        raise LabError(f"{path}: {error}") from error
    used = Counter(end for link in links for end in (link.first, link.second))
    for end, count in used.items():
        if count > 1:
            raise LabError(f"{path}: {end.node}:{end.interface} is used by {count} links")
    return Topology(file.name, nodes, links)


def _node(name: str, topology: TopologyDefinition, base: Path) -> Node:
    own = topology.nodes[name]
    kind = own.kind or topology.defaults.kind
    if kind != "linux":
        raise ValueError(f'node {name}: kind "{kind}" is not supported, only "linux"')
    # Inherited as containerlab does it: lists are joined, defaults first.
    layers = (topology.defaults, topology.kinds.get(kind, NodeDefinition()), own)
    binds = dict(_bind(name, text, base) for layer in layers for text in layer.binds)
    commands = tuple(tuple(shlex.split(line)) for layer in layers for line in layer.exec)
    labels = {key: value for layer in layers for key, value in layer.labels.items()}
    entrypoint, cmd = (next((text for text in texts if text), "") for texts in _overriding(layers))
    program = () if entrypoint in NOTHING_TO_RUN else (*shlex.split(entrypoint), *shlex.split(cmd))
    return Node(name, labels, binds, commands, tuple(str(binds.get(word, word)) for word in program))


def _overriding(layers: tuple[NodeDefinition, ...]) -> tuple[list[str], list[str]]:
    """Entrypoints and cmds, those that override first."""
    return [layer.entrypoint for layer in reversed(layers)], [layer.cmd for layer in reversed(layers)]


def _bind(node: str, text: str, base: Path) -> tuple[str, Path]:
    source, _, rest = text.partition(":")
    target = rest.partition(":")[0]
    path = base / source
    if not target.startswith("/"):
        raise ValueError(f'node {node}: bind "{text}" is not SOURCE:/TARGET[:ro]')
    if not path.exists():
        raise ValueError(f'node {node}: bind "{text}": {path} does not exist')
    return target, path


def _link(definition: LinkDefinition, nodes: dict[str, Node]) -> Link:
    ends = []
    for text in definition.endpoints:
        node, _, interface = text.partition(":")
        if node not in nodes:
            raise ValueError(f'link endpoint "{text}": there is no node "{node}"')
        if not 0 < len(interface) <= INTERFACE_NAME_LENGTH:
            raise ValueError(f'link endpoint "{text}": an interface name has 1 to {INTERFACE_NAME_LENGTH} characters')
        ends.append(Endpoint(node, interface))
    return Link(ends[0], ends[1], definition.mtu)
