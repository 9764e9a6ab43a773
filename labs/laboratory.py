"""A running laboratory: realises a topology with one network namespace per node and the machine's own daemons.

Order: namespaces, links, the nodes' exec lines, then switches, brokers and programs, then bgpd (with bgpd-bfd
where its configuration wants BFD). Never changes anything outside its namespaces but a directory below /tmp per daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from labs.daemons import Bfd, Bgpd, Frr, Mosquitto
from labs.namespace import Namespace, has_vlans, link
from labs.process import LabError, LoggedProcess
from labs.topology import Endpoint, Node, Topology, sub_interface


class Laboratory:
    """The nodes of a topology, running; a context manager. Namespaces, daemons and programs are by node name.

    With `exact_names` the namespaces are called "NAME-NODE", else they hold the process id and several may run at once.
    """

    def __init__(
        self, topology: Topology, *, exact_names: bool = False, progress: Callable[[str], None] = print
    ) -> None:
        self.topology = topology
        self.progress = progress
        self.namespaces: dict[str, Namespace] = {}
        self.frr: dict[str, Frr] = {}
        self.bgpd: dict[str, Bgpd] = {}
        self.bfd: dict[str, Bfd] = {}
        self.brokers: dict[str, Mosquitto] = {}
        self.programs: dict[str, LoggedProcess] = {}
        self._exact_names = exact_names
        self._has_vlans = True

    def __enter__(self) -> Laboratory:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Bring everything up; the daemons answer when this returns, their sessions may not be established yet.

        Raises: LabError: a namespace, link, exec line or daemon failed.
        """
        topology = self.topology
        self.progress(f"{len(topology.nodes)} namespaces, {len(topology.links)} links")
        for name in topology.nodes:
            exact = f"{topology.name}-{name}" if self._exact_names else ""
            self.namespaces[name] = Namespace(name, exact_name=exact).open()
        for wire in topology.links:
            first, second = self.namespaces[wire.first.node], self.namespaces[wire.second.node]
            link(first, wire.first.interface, second, wire.second.interface, mtu=wire.mtu)
        self._stand_in_for_vlans()
        for node in topology.nodes.values():
            self._set_up(node)
        for node in topology.nodes.values():
            self._start_surroundings(node)
        for node in topology.nodes.values():
            self._start_bgpd(node)

    def down(self) -> None:
        """End the daemons and remove the namespaces; may be called more than once."""
        for namespace in reversed(self.namespaces.values()):
            namespace.close()

    def leave_up(self) -> None:
        """Let namespaces and daemons outlive this program."""
        for namespace in self.namespaces.values():
            namespace.leave_open()

    def set_link(self, node: str, towards: str, state: str) -> None:
        """Set the `node` end of its link `towards` another node "up" or "down", and its VLANs with it."""
        end, _ = self.topology.link_between(node, towards)
        names = [end.interface]
        if not self._has_vlans:
            names += [pair.interface for ends in self._vlan_links() for pair in ends if self._is_part(pair, end)]
        for name in names:
            self.namespaces[node].ip("link", "set", name, state)

    def silence(self, node: str) -> None:
        """From now on no packet leaves or reaches the node, and all its links stay up: it is dead, and tells nobody."""
        for namespace, interface in self._ends(node):
            namespace.run("tc", "qdisc", "replace", "dev", interface, "root", "pfifo", "limit", "0")

    def unsilence(self, node: str) -> None:
        """End that."""
        for namespace, interface in self._ends(node):
            namespace.run("tc", "qdisc", "del", "dev", interface, "root")

    def _ends(self, node: str) -> Iterator[tuple[Namespace, str]]:
        """Both ends of all links of a node."""
        for wire in self.topology.links:
            if node in (wire.first.node, wire.second.node):
                for end in (wire.first, wire.second):
                    yield self.namespaces[end.node], end.interface

    def _is_part(self, vlan: Endpoint, end: Endpoint) -> bool:
        return vlan.node == end.node and vlan.interface.startswith(f"{end.interface}.")

    def _vlan_links(self) -> list[tuple[Endpoint, Endpoint]]:
        return [ends for wire in self.topology.links for ends in self.topology.vlan_links(wire)]

    def _stand_in_for_vlans(self) -> None:
        """Where the kernel has no VLAN devices, a veth pair takes the place of each pair of sub-interfaces."""
        pairs = self._vlan_links()
        if not pairs or has_vlans(self.namespaces[pairs[0][0].node]):
            return
        self._has_vlans = False
        self.progress(f"this kernel has no VLAN devices: {len(pairs)} veth pairs take their place")
        for first, second in pairs:
            link(self.namespaces[first.node], first.interface, self.namespaces[second.node], second.interface)

    def _set_up(self, node: Node) -> None:
        namespace = self.namespaces[node.name]
        for words in node.commands:
            if not self._has_vlans and sub_interface(words) is not None:
                continue
            try:
                if words[0] == "ip" and not words[1].startswith("-"):
                    namespace.ip(*words[1:])
                else:
                    namespace.run(*words)
            except LabError as error:
                raise LabError(f'node {node.name}: exec "{" ".join(words)}" failed\n{error}') from error

    def start_program(self, name: str) -> None:
        """Start a node's program (again, after it was ended)."""
        namespace = self.namespaces[name]
        log_path = namespace.make_directory("program") / "program.log"
        self.programs[name] = namespace.popen(*self.topology.nodes[name].program, log_path=log_path)

    def _start_surroundings(self, node: Node) -> None:
        namespace = self.namespaces[node.name]
        if node.frr_config is not None:
            self.progress(f"{node.name}: FRR with {node.frr_config}")
            config = node.frr_config.read_text()
            self.frr[node.name] = Frr(namespace, config, bfd=" bfd" in config)
        if node.mosquitto_config is not None:
            self.progress(f"{node.name}: Mosquitto with {node.mosquitto_config}")
            self.brokers[node.name] = Mosquitto(namespace, node.mosquitto_config.read_text())
        if node.program:
            self.start_program(node.name)

    def _start_bgpd(self, node: Node) -> None:
        if node.bgpd_config is not None:
            self.progress(f"{node.name}: bgpd with {node.bgpd_config}")
            config = node.bgpd_config.read_text()
            if "bfd = {" in config:
                self.bfd[node.name] = bfd = Bfd(self.namespaces[node.name])
                config += f'\n[bfd]\nsocket = "{bfd.socket_path}"\n'
            self.bgpd[node.name] = Bgpd(self.namespaces[node.name], config)
