"""`bgpd import calico`: BGPPeer, BGPConfiguration, BGPFilter, IPPool, Node and BlockAffinity, for one node.

What Calico's BIRD does for the node becomes bgpd's: peers, the mesh, what is announced. Felix, IPAM and the CNI plugin
stay Calico's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from bgpd.migrate.calico_filters import export_policy, import_policy
from bgpd.migrate.calico_selector import BadSelector, matches
from bgpd.migrate.draft import AUTOMATIC, Draft, ImportFailed, Place, Secret, Table, neighbor_name
from bgpd.migrate.kubernetes import KubernetesObject, duration_ms, of_kind, read_objects, secret_text
from bgpd.migrate.reading import display_name
from bgpd.migrate.yaml_documents import Mapping

_DEFAULT_ASN = 64512
_HOLD_TIME_S = 240
_KINDS = {
    "BGPPeer", "BGPConfiguration", "BGPFilter", "IPPool", "Node", "BlockAffinity", "Secret", "FelixConfiguration",
    "IPAMBlock", "IPAMHandle", "IPAMConfig", "IPAMConfiguration", "ClusterInformation", "KubeControllersConfiguration",
}  # fmt: skip
_CONFIGURATION_KEYS = {
    "asNumber", "nodeToNodeMeshEnabled", "logSeverityScreen", "communities", "prefixAdvertisements", "nodeMeshPassword",
    "nodeMeshMaxRestartTime", "bindMode", "ignoredInterfaces",
}  # fmt: skip
_PEER_KEYS = {
    "peerIP", "asNumber", "node", "nodeSelector", "peerSelector", "password", "sourceAddress", "maxRestartTime",
    "numAllowedLocalASNumbers", "ttlSecurity", "filters", "localASNumber", "failureDetectionMode", "restartMode",
}  # fmt: skip


class NodeFacts:
    """What the files say of one node, by either kind of Node object."""

    def __init__(self, found: KubernetesObject) -> None:
        bgp = found.spec.mapping("bgp")
        self.name = found.name
        self.place = found.place
        self.labels = found.labels
        self.ipv4 = _bare(bgp.text("ipv4Address") or found.annotations.get("projectcalico.org/IPv4Address", ""))
        self.ipv6 = _bare(bgp.text("ipv6Address") or found.annotations.get("projectcalico.org/IPv6Address", ""))
        text = bgp.text("asNumber") or found.annotations.get("projectcalico.org/ASNumber", "")
        self.asn = as_number(text)
        self.is_reflector = bool(
            bgp.text("routeReflectorClusterID") or found.annotations.get("projectcalico.org/RouteReflectorClusterID")
        )


def import_calico(files: Sequence[str], node: str) -> Draft:
    """The draft for one node. `node` is its name; "" if the files have one node only, or none.

    Raises: ImportFailed: a file cannot be read, or the files have several nodes and `node` is none of them.
    """
    objects = read_objects(files)
    names = ", ".join(map(display_name, files))
    if not any(one.kind in ("BGPPeer", "BGPConfiguration", "IPPool") for one in objects):
        what = "has no BGPPeer, BGPConfiguration or IPPool"
        raise ImportFailed(
            Place(names), what, "kubectl get bgppeers,bgpconfigurations,bgpfilters,ippools,nodes -o yaml"
        )
    own, others = _nodes(objects, node, names)
    title = f" for node {own.name}" if own else ""
    draft = Draft(f"Converted from Calico's objects in {names}{title}: read it before you use it.")
    _Calico(draft, objects, own, others, node, names).write()
    return draft


def _nodes(objects: list[KubernetesObject], node: str, names: str) -> tuple[NodeFacts | None, list[NodeFacts]]:
    by_name: dict[str, NodeFacts] = {}
    for one in of_kind(objects, "Node"):
        facts = NodeFacts(one)
        before = by_name.get(facts.name)
        if before is None or not before.ipv4:
            by_name[facts.name] = facts
    if not by_name:
        return None, []
    if not node and len(by_name) == 1:
        node = next(iter(by_name))
    if node not in by_name:
        known = ", ".join(sorted(by_name)[:20])
        what = f'has no node "{node}"' if node else f"has {len(by_name)} nodes"
        raise ImportFailed(Place(names), what, f"--node NAME says for which one: {known}")
    return by_name[node], [one for name, one in by_name.items() if name != node]


class _Calico:
    def __init__(
        self,
        draft: Draft,
        objects: list[KubernetesObject],
        own: NodeFacts | None,
        others: list[NodeFacts],
        node: str,
        names: str,
    ) -> None:
        self._draft = draft
        self._objects = objects
        self._own = own
        self._others = others
        self._node = own.name if own else node
        self._names = names
        self._settings = Mapping(Place(names))
        for name in ("default", f"node.{self._node}"):
            for one in of_kind(objects, "BGPConfiguration"):
                if one.name == name:
                    self._settings.update(one.spec)
                    self._settings.place = one.place
                    self._settings.lines.update(one.spec.lines)
        self._asn = (own.asn if own else None) or as_number(self._settings.text("asNumber")) or _DEFAULT_ASN

    def write(self) -> None:
        """All of it."""
        self._write_router()
        self._write_mesh()
        for peer in of_kind(self._objects, "BGPPeer"):
            self._write_peer(peer)
        self._write_workloads()
        for key in self._settings:
            if key not in _CONFIGURATION_KEYS and self._settings[key] not in (None, [], {}):
                right = (
                    "[workload.api] or a service tells bgpd of service addresses" if key.startswith("service") else ""
                )
                self._draft.lose(self._settings.at(key), f'BGPConfiguration "{key}" is not converted', right)
        for one in self._objects:
            if one.kind not in _KINDS:
                self._draft.lose(one.place, f"{one.kind} {one.name} is not converted")

    def _write_router(self) -> None:
        table = self._draft.section("router")
        place = self._own.place if self._own and self._own.asn else self._settings.at("asNumber")
        is_said = self._settings.get("asNumber") is not None or (self._own is not None and self._own.asn)
        table.put("asn", self._asn, place if is_said else "the default of Calico")
        if self._own and self._own.ipv4:
            table.put("router_id", self._own.ipv4, f"{self._own.place}: Node {self._own.name}")
        else:
            table.put("router_id", AUTOMATIC, "the files have no address of the node")
        if self._node:
            table.put("hostname", self._node)
        if self._own and self._own.is_reflector:
            self._draft.lose(self._own.place, "the node is a route reflector, which bgpd is not", at=table)

    def _write_mesh(self) -> None:
        if self._settings.flag("nodeToNodeMeshEnabled") is False:
            return
        place = self._settings.at("nodeToNodeMeshEnabled")
        if not self._others:
            what = "the node-to-node mesh is on (Calico's default), and the files have no other nodes"
            self._draft.lose(place, what, "add the nodes to the files, or turn the mesh off in favour of the leaves")
            return
        for other in self._others:
            for address in (other.ipv4, other.ipv6):
                if address:
                    table = self._draft.add("neighbor")
                    table.put("name", neighbor_name(self._draft, other.name), f"{other.place}: the node-to-node mesh")
                    self._write_session(table, address, other.asn or self._asn, Mapping(place))
                    self._write_password(table, self._settings.mapping("nodeMeshPassword"))

    def _write_peer(self, peer: KubernetesObject) -> None:
        for_this = self._is_for_this_node(peer)
        if for_this is False:
            return
        addresses = self._peer_addresses(peer)
        if not addresses:
            self._draft.lose(peer.place, f"BGPPeer {peer.name}: the files have no node that it selects")
        for name, address, port, asn in addresses:
            table = self._draft.add("neighbor", is_proposal=for_this is None)
            if for_this is None:
                what = f"BGPPeer {peer.name} is for some nodes, and the files do not say whether for this one"
                self._draft.lose(peer.place, what, "give the Node objects too, and --node", at=table)
            table.put("name", neighbor_name(self._draft, name), f"{peer.place}: BGPPeer {peer.name}")
            if port:
                table.put("port", port)
            self._write_session(table, address, asn, peer.spec)
            self._write_password(table, peer.spec.mapping("password"))
            for key in peer.spec:
                if key not in _PEER_KEYS and peer.spec[key] not in (None, False, [], {}, "Auto"):
                    self._draft.lose(peer.spec.at(key), f'"{key}" of BGPPeer {peer.name} is not converted', at=table)

    def _is_for_this_node(self, peer: KubernetesObject) -> bool | None:
        """Whether a peer is one of this node's; None if the files do not say."""
        node, selector = peer.spec.text("node"), peer.spec.text("nodeSelector")
        if node:
            return node == self._node if self._node else None
        if not selector or selector.replace(" ", "") == "all()":
            return True
        return None if self._own is None else _selects(selector, self._own.labels, peer.spec.at("nodeSelector"))

    def _peer_addresses(self, peer: KubernetesObject) -> list[tuple[str, str, int, int]]:
        """Name, address, port (0: the usual one) and AS number of each neighbor that a BGPPeer stands for."""
        selector = peer.spec.text("peerSelector")
        asn = as_number(peer.spec.text("asNumber"))
        if not selector:
            address, port = _address_and_port(peer.spec.text("peerIP"))
            if asn is None:
                raise ImportFailed(peer.place, f"BGPPeer {peer.name} has no asNumber")
            return [(peer.name, address, port, asn)]
        return [
            (other.name, address, 0, other.asn or asn or self._asn)
            for other in self._others
            if _selects(selector, other.labels, peer.spec.at("peerSelector"))
            for address in (other.ipv4, other.ipv6)
            if address
        ]

    def _write_session(self, table: Table, address: str, asn: int, spec: Mapping) -> None:
        is_ipv6 = ":" in address
        table.put("address", address, spec.at("peerIP"))
        table.put("asn", asn)
        table.put("families", ["ipv6-unicast" if is_ipv6 else "ipv4-unicast"], "Calico has a session for each family")
        table.put("hold_time_s", _HOLD_TIME_S, "the default of Calico's BIRD")
        source = self._own and (self._own.ipv6 if is_ipv6 else self._own.ipv4)
        if source and spec.text("sourceAddress") != "None":
            table.put("source_address", source, "sourceAddress: UseNodeIP")
        if (local := as_number(spec.text("localASNumber"))) is not None:
            table.put("local_asn", local, spec.at("localASNumber"))
        if (count := spec.number("numAllowedLocalASNumbers")) is not None and count > 0:
            table.put("allow_own_as", min(count, 10), spec.at("numAllowedLocalASNumbers"))
        if (hops := spec.number("ttlSecurity")) is not None:
            table.put("ttl_security", True, spec.at("ttlSecurity"))
            if hops > 1:
                self._draft.lose(spec.at("ttlSecurity"), "more than one hop: here packets must have TTL 255", at=table)
        restart = duration_ms(spec.text("maxRestartTime") or self._settings.text("nodeMeshMaxRestartTime"))
        table.put("graceful_restart", {"mode": "both"} if restart is None else
                  {"mode": "both", "restart_time_s": restart // 1000}, "Calico's BIRD has it on")  # fmt: skip
        is_internal = asn == (local if local is not None else self._asn)
        filters = self._filters(spec, table)
        import_policy(self._draft, table, filters, is_ipv6=is_ipv6, is_internal=is_internal)
        pools = of_kind(self._objects, "IPPool")
        export_policy(self._draft, table, filters, pools, self._settings, is_ipv6=is_ipv6, is_internal=is_internal)

    def _filters(self, spec: Mapping, table: Table) -> list[KubernetesObject] | None:
        """The BGPFilters of a peer, in order; None if one of them is missing."""
        known = {one.name: one for one in of_kind(self._objects, "BGPFilter")}
        names = spec.texts("filters")
        missing = [name for name in names if name not in known]
        if missing:
            what = f"the files have no BGPFilter {', '.join(missing)}"
            self._draft.lose(spec.at("filters"), what, "nothing is let through: give them, too", at=table)
            return None
        return [known[name] for name in names]

    def _write_password(self, table: Table, password: Mapping) -> None:
        reference = password.mapping("secretKeyRef")
        if not reference:
            return
        name, key = reference.text("name"), reference.text("key")
        text = secret_text(self._objects, name, key)
        self._draft.secrets.append(Secret(table, str(table.values["name"]), text, reference.place))

    def _write_workloads(self) -> None:
        prefixes = [one.spec.text("interfacePrefix") for one in of_kind(self._objects, "FelixConfiguration")]
        names = [name for text in prefixes for name in text.split(",") if name] or ["cali"]
        table = self._draft.section("workload.kernel")
        table.put("interfaces", [f"{name}*" for name in names], "pods: the routes that Felix writes")
        blocks = 0
        for one in of_kind(self._objects, "BlockAffinity"):
            if one.spec.text("node") == self._node and one.spec.text("deleted").lower() != "true":
                blocks += 1
                aggregate = self._draft.add("aggregate")
                aggregate.put("prefix", one.spec.text("cidr"), f"{one.place}: a block of this node")
                aggregate.put("summary_only", True)
                aggregate.put("blackhole", True)
        if not blocks:
            what = "Calico announces the blocks of a node (/26, say), bgpd each pod: the files do not say the blocks"
            right = "give the BlockAffinity objects too: they become aggregates"
            self._draft.lose(Place(self._names), what, right, at=table)
        for pool in of_kind(self._objects, "IPPool"):
            for key in ("ipipMode", "vxlanMode"):
                if pool.spec.text(key) not in ("", "Never"):
                    what = f"IPPool {pool.name} has {key} {pool.spec.text(key)}: bgpd routes without encapsulation"
                    self._draft.lose(pool.spec.at(key), what, "the fabric must route pods' addresses", at=table)


def _selects(selector: str, labels: dict[str, str], place: Place) -> bool:
    try:
        return matches(selector, labels)
    except BadSelector as error:
        raise ImportFailed(place, str(error)) from None


def _bare(text: str) -> str:
    """An address without its length; "" for what is none."""
    try:
        return str(ipaddress.ip_interface(text).ip)
    except ValueError:
        return ""


def as_number(text: str) -> int | None:
    """An AS number, also as "64512.1"; None for what is none or 0."""
    if re.fullmatch(r"[0-9]{1,10}", text):
        return int(text) or None
    found = re.fullmatch(r"([0-9]{1,5})\.([0-9]{1,5})", text)
    return (int(found[1]) << 16 | int(found[2])) or None if found else None


def _address_and_port(text: str) -> tuple[str, int]:
    """ "10.0.0.1", "10.0.0.1:180", "[2001:db8::1]:180"; port 0 where none is said."""
    if found := re.fullmatch(r"\[([^\]]+)\]:([0-9]{1,5})", text):
        return found[1], int(found[2])
    if found := re.fullmatch(r"([0-9.]+):([0-9]{1,5})", text):
        return found[1], int(found[2])
    return text.strip("[]"), 0
