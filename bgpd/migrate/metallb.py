"""`bgpd import metallb`: BGPPeer, BFDProfile, BGPAdvertisement, IPAddressPool, Community, or the ConfigMap of before
0.13, for one node.

MetalLB announces and learns nothing: `import` is "none". What it announces is told by its own controller; here a source
of workloads has to say it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence

import msgspec

from bgpd.migrate.draft import AUTOMATIC, Draft, ImportFailed, Place, Secret, Table, neighbor_name
from bgpd.migrate.filters import (
    ACCEPT,
    LOCAL,
    REJECT,
    Branch,
    Change,
    Inexpressible,
    Match,
    Statement,
    compile_rules,
    named_policy,
    prefix_range,
)
from bgpd.migrate.kubernetes import (
    KubernetesObject,
    duration_ms,
    label_selector_matches,
    of_kind,
    read_objects,
    secret_text,
)
from bgpd.migrate.metallb_old import of_config_map
from bgpd.migrate.reading import display_name
from bgpd.migrate.yaml_documents import Mapping
from bgpd.model.policy_syntax import parse_community, parse_large_community

_HOLD_TIME_S = 90
_CONNECT_RETRY_S = 120
_MOST_AGGREGATES = 64
_MOST_RANGES = 2000
_KINDS = {"BGPPeer", "BFDProfile", "BGPAdvertisement", "IPAddressPool", "Community", "Node", "Secret", "ConfigMap"}
_PEER_KEYS = {
    "myASN", "peerASN", "dynamicASN", "peerAddress", "interface", "peerPort", "sourceAddress", "routerID", "holdTime",
    "keepaliveTime", "connectTime", "nodeSelectors", "password", "passwordSecret", "bfdProfile", "ebgpMultiHop",
    "enableGracefulRestart", "disableMP", "dualStackAddressFamily",
}  # fmt: skip
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Pool(msgspec.Struct):
    """Addresses that services are given."""

    name: str
    networks: list[Network]
    labels: dict[str, str]
    place: Place


class Advertisement(msgspec.Struct):
    """What is announced of which pools, to which peers (none: all), and with what."""

    spec: Mapping
    pools: list[Pool]
    peers: list[str]
    is_for_this_node: bool | None


def import_metallb(files: Sequence[str], node: str) -> Draft:
    """The draft for one node; `node` is its name, for what is selected by its labels.

    Raises: ImportFailed: a file cannot be read, or there is no peer.
    """
    objects = read_objects(files)
    for one in of_kind(objects, "ConfigMap"):
        objects += of_config_map(one)
    names = ", ".join(map(display_name, files))
    peers = of_kind(objects, "BGPPeer")
    if not peers:
        right = (
            "kubectl -n metallb-system get bgppeers,bgpadvertisements,ipaddresspools,bfdprofiles,communities -o yaml"
        )
        raise ImportFailed(Place(names), "has no BGPPeer", right)
    draft = Draft(f"Converted from MetalLB's objects in {names}: read it before you use it.")
    _MetalLb(draft, objects, node, names).write(peers)
    return draft


class _MetalLb:
    def __init__(self, draft: Draft, objects: list[KubernetesObject], node: str, names: str) -> None:
        self._draft = draft
        self._objects = objects
        self._names = names
        nodes = of_kind(objects, "Node")
        chosen = [one for one in nodes if one.name == node] if node else (nodes if len(nodes) == 1 else [])
        if node and nodes and not chosen:
            raise ImportFailed(Place(names), f'has no node "{node}"', "--node NAME says for which node it is")
        self._labels = None if not chosen else {"kubernetes.io/hostname": chosen[0].name, **chosen[0].labels}
        self._communities = {
            community.text("name"): community.text("value")
            for one in of_kind(objects, "Community")
            for community in one.spec.mappings("communities")
        }
        self._pools = [pool for pool in map(self._pool, of_kind(objects, "IPAddressPool")) if pool is not None]

    def write(self, peers: list[KubernetesObject]) -> None:
        """All of it."""
        advertisements = [self._advertisement(one) for one in of_kind(self._objects, "BGPAdvertisement")]
        numbers = Counter(number for peer in peers if (number := peer.spec.number("myASN")) is not None)
        if not numbers:
            raise ImportFailed(peers[0].place, "no BGPPeer has a myASN")
        own_asn = numbers.most_common(1)[0][0]
        router = self._draft.section("router")
        router.put("asn", own_asn, peers[0].spec.at("myASN"))
        identifiers = [peer.spec for peer in peers if peer.spec.text("routerID")]
        if identifiers:
            router.put("router_id", identifiers[0].text("routerID"), identifiers[0].at("routerID"))
        else:
            router.put("router_id", AUTOMATIC, "MetalLB takes the node's address")
        for peer in peers:
            self._write_peer(peer, own_asn, advertisements)
        self._write_aggregates(advertisements)
        self._write_sources()
        for one in self._objects:
            if one.kind not in _KINDS:
                self._draft.lose(one.place, f"{one.kind} {one.name} is not converted")

    def _is_for_this_node(self, spec: Mapping) -> bool | None:
        """Whether one of the node selectors fits; None if the files do not say."""
        selectors = spec.mappings("nodeSelectors")
        if not selectors:
            return True
        if self._labels is None:
            return None
        return any(label_selector_matches(one, self._labels) for one in selectors)

    def _pool(self, found: KubernetesObject) -> Pool | None:
        networks: list[Network] = []
        for text in found.spec.texts("addresses"):
            try:
                networks += _networks_of(text)
            except ValueError:
                where = found.spec.at("addresses")
                self._draft.lose(where, f'IPAddressPool {found.name}: "{text}" is no range of addresses')
        if found.spec.flag("avoidBuggyIPs"):
            self._draft.lose(found.spec.at("avoidBuggyIPs"), "avoidBuggyIPs is the controller's, not bgpd's")
        return Pool(found.name, networks, found.labels, found.place)

    def _advertisement(self, found: KubernetesObject) -> Advertisement:
        spec = found.spec
        names, selectors = spec.texts("ipAddressPools"), spec.mappings("ipAddressPoolSelectors")
        chosen = [
            pool
            for pool in self._pools
            if (not names and not selectors)
            or pool.name in names
            or any(label_selector_matches(one, pool.labels) for one in selectors)
        ]
        return Advertisement(spec, chosen, spec.texts("peers"), self._is_for_this_node(spec))

    def _write_peer(self, peer: KubernetesObject, own_asn: int, advertisements: list[Advertisement]) -> None:
        spec = peer.spec
        for_this = self._is_for_this_node(spec)
        if for_this is False:
            return
        table = self._draft.add("neighbor", is_proposal=for_this is None)
        if for_this is None:
            what = f"BGPPeer {peer.name} is for some nodes, and the files do not say whether for this one"
            self._draft.lose(spec.at("nodeSelectors"), what, "give the Node objects too, and --node", at=table)
        table.put("name", neighbor_name(self._draft, peer.name or "peer"), f"{peer.place}: BGPPeer {peer.name}")
        for key, source in (
            ("address", "peerAddress"),
            ("interface", "interface"),
            ("source_address", "sourceAddress"),
        ):
            if text := spec.text(source):
                table.put(key, text, spec.at(source))
        if (port := spec.number("peerPort")) is not None:
            table.put("port", port, spec.at("peerPort"))
        asn = spec.number("peerASN")
        table.put("asn", asn or spec.text("dynamicASN") or "external", spec.at("peerASN" if asn else "dynamicASN"))
        if (mine := spec.number("myASN")) is not None and mine != own_asn:
            table.put("local_asn", mine, spec.at("myASN"))
        self._write_session(table, peer)
        table.put("import", "none", "MetalLB learns nothing")
        self._write_export(table, peer, advertisements)

    def _write_session(self, table: Table, peer: KubernetesObject) -> None:
        spec = peer.spec
        for key, source, default in (
            ("hold_time_s", "holdTime", _HOLD_TIME_S),
            ("connect_retry_s", "connectTime", _CONNECT_RETRY_S),
        ):
            found = duration_ms(spec.text(source)) if spec.get(source) is not None else None
            table.put(
                key,
                default if found is None else found // 1000,
                "the default of MetalLB" if found is None else spec.at(source),
            )
        if profile := spec.text("bfdProfile"):
            self._write_bfd(table, profile, spec.at("bfdProfile"))
        if spec.flag("enableGracefulRestart"):
            table.put("graceful_restart", {"mode": "both"}, spec.at("enableGracefulRestart"))
        else:
            table.put("graceful_restart", {"mode": "helper"}, "the default of MetalLB's FRR")
        if spec.flag("ebgpMultiHop"):
            table.remark(
                f"{spec.at('ebgpMultiHop')}: ebgpMultiHop: needs no key here, a neighbor may be several hops away"
            )
        if spec.flag("disableMP"):
            table.put(
                "families", ["ipv6-unicast" if ":" in table.text("address") else "ipv4-unicast"], spec.at("disableMP")
            )
        reference = spec.mapping("passwordSecret")
        password = spec.text("password") or (
            secret_text(self._objects, reference.text("name"), "password") if reference else ""
        )
        if spec.text("password") or reference:
            place = spec.at("password" if spec.text("password") else "passwordSecret")
            self._draft.secrets.append(Secret(table, str(table.values["name"]), password, place))
        for key in spec:
            if key not in _PEER_KEYS and spec[key] not in (None, False, [], {}, ""):
                self._draft.lose(spec.at(key), f'"{key}" of BGPPeer {peer.name} is not converted', at=table)
                table.is_proposal = table.is_proposal or key == "vrf"

    def _write_bfd(self, table: Table, name: str, place: Place) -> None:
        profile = next((one for one in of_kind(self._objects, "BFDProfile") if one.name == name), None)
        if profile is None:
            table.put("bfd", {}, place)
            self._draft.lose(place, f"the files have no BFDProfile {name}", "these are bgpd's own timers", at=table)
            return
        times = [time for key in ("receiveInterval", "transmitInterval") if (time := profile.spec.number(key))]
        found: dict[str, int] = {"interval_ms": max(times)} if times else {}
        if (count := profile.spec.number("detectMultiplier")) is not None:
            found["multiplier"] = count
        table.put("bfd", dict(found), f"{place}: BFDProfile {name}")
        for key in ("echoMode", "passiveMode", "minimumTtl"):
            if profile.spec.get(key) not in (None, False):
                self._draft.lose(profile.spec.at(key), f'"{key}" of BFDProfile {name} is not converted', at=table)

    def _write_export(self, table: Table, peer: KubernetesObject, advertisements: list[Advertisement]) -> None:
        mine = [one for one in advertisements if not one.peers or peer.name in one.peers]
        for one in mine:
            if one.is_for_this_node is None:
                what = "a BGPAdvertisement is for some nodes, and the files do not say whether for this one: left out"
                self._draft.lose(one.spec.at("nodeSelectors"), what, "give the Node objects too, and --node", at=table)
        mine = [one for one in mine if one.is_for_this_node]
        try:
            statements = [self._statement(one) for one in mine]
            every = tuple(dict.fromkeys(text for one in mine for text in _announced(one)))
            own = (*statements, Branch(Match("prefix", every), (ACCEPT,)), REJECT)
            rules = compile_rules((Branch(Match(LOCAL, (LOCAL,)), own), REJECT), default=REJECT)
        except Inexpressible as error:
            where = Place(peer.place.file, error.line) if error.line else peer.place
            what = f"what is announced to BGPPeer {peer.name} cannot be converted: {error}"
            self._draft.lose(where, what, 'export is "none" until there is a policy', at=table)
            table.put("export", "none", "not converted")
            return
        name = named_policy(rules, exporting=True) or self._draft.policy(
            "metallb-export", rules, "pools and advertisements of MetalLB"
        )
        table.put("export", name)
        if not mine:
            self._draft.lose(
                peer.place, f"no BGPAdvertisement is for BGPPeer {peer.name}: it is sent nothing", at=table
            )

    def _statement(self, one: Advertisement) -> Statement:
        changes = [self._community(text, one.spec) for text in one.spec.texts("communities")]
        if (preference := one.spec.number("localPref")) is not None:
            changes.append(Change("local_pref", preference))
        return Branch(Match("prefix", _announced(one)), tuple(changes))

    def _community(self, text: str, spec: Mapping) -> Change:
        value = self._communities.get(text, text)
        is_large = value.startswith("large:")
        value = value.removeprefix("large:")
        try:
            (parse_large_community if is_large else parse_community)(value)
        except ValueError as error:
            raise Inexpressible(str(error), spec.lines.get("communities", 0)) from None
        return Change("add_large_community" if is_large else "add_community", value)

    def _write_aggregates(self, advertisements: list[Advertisement]) -> None:
        seen: set[Network] = set()
        for one in advertisements:
            for network in (network for pool in one.pools for network in pool.networks):
                length = _aggregation(one.spec, network)
                if length == network.max_prefixlen or one.is_for_this_node is False:
                    continue
                if network.prefixlen > length or 1 << (length - network.prefixlen) > _MOST_AGGREGATES - len(seen):
                    what = f"aggregates of /{length} in {network} are not written"
                    self._draft.lose(one.spec.at("aggregationLength"), what, "write [[aggregate]] for what is in use")
                    continue
                for subnet in network.subnets(new_prefix=length):
                    if subnet not in seen:
                        seen.add(subnet)
                        table = self._draft.add("aggregate")
                        table.put("prefix", str(subnet), f"{one.spec.at('aggregationLength')}: aggregationLength")

    def _write_sources(self) -> None:
        table = self._draft.section("workload.api")
        table.remark(
            "Who says which service addresses this node has? Programs, by the local API, as here; or kube-proxy in"
        )
        table.remark("IPVS mode, by the addresses of kube-ipvs0; or MetalLB's own speaker, which can go on as a guest.")
        proposed = self._draft.propose("workload.addresses")
        proposed.put("interfaces", ["kube-ipvs0"], "with kube-proxy in IPVS mode, in place of [workload.api]")
        proposed.put("prefixes", [str(network) for pool in self._pools for network in pool.networks])
        what = "MetalLB's controller does not speak to bgpd"
        self._draft.lose(Place(self._names), what, "say services by the local API: docs/migrate.md", at=table)


def _networks_of(text: str) -> list[Network]:
    """Prefixes of "10.0.0.0/24" or "10.0.0.1-10.0.0.9". Raises: ValueError."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        return [ipaddress.ip_network(text.strip(), strict=False)]
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    if low.version != high.version:
        raise ValueError(text)
    networks: list[Network] = []
    for network in ipaddress.summarize_address_range(low, high):
        networks.append(network)
        if len(networks) > _MOST_RANGES:
            raise ValueError(text)
    return networks


def _aggregation(spec: Mapping, network: Network) -> int:
    key = "aggregationLengthV6" if network.version == 6 else "aggregationLength"
    length = spec.number(key)
    return network.max_prefixlen if length is None else min(max(length, 0), network.max_prefixlen)


def _announced(one: Advertisement) -> tuple[str, ...]:
    """The prefixes that an advertisement may come to: inside its pools, of the length of aggregation."""
    return tuple(
        text
        for pool in one.pools
        for network in pool.networks
        for text in prefix_range(network, _aggregation(one.spec, network), _aggregation(one.spec, network))
    )
