"""The ConfigMap of MetalLB before 0.13, as the objects that came after it."""

from __future__ import annotations

from bgpd.migrate.kubernetes import KubernetesObject
from bgpd.migrate.yaml_documents import Mapping, read_documents


def of_config_map(found: KubernetesObject) -> list[KubernetesObject]:
    """What the ConfigMap of MetalLB before 0.13 holds, as the objects of today."""
    data = found.body.mapping("data")
    text = data.text("config")
    if not text:
        return []
    made: list[KubernetesObject] = []
    for config in read_documents(text, found.place.file, lines_before=data.lines.get("config", 0)):
        for number, peer in enumerate(config.mappings("peers"), 1):
            made.append(_renamed("BGPPeer", peer.text("name") or f"peer{number}", peer, _OLD_PEER))
        for pool in config.mappings("address-pools"):
            if pool.text("protocol") not in ("bgp", ""):
                made.append(KubernetesObject("address-pool", pool.text("name"), pool, pool, pool.place))
                continue
            made.append(
                _renamed(
                    "IPAddressPool",
                    pool.text("name"),
                    pool,
                    {"addresses": "addresses", "avoid-buggy-ips": "avoidBuggyIPs"},
                )
            )
            made += _old_advertisements(pool)
        if communities := config.mapping("bgp-communities"):
            made.append(_old_communities(communities))
        made += [_renamed("BFDProfile", one.text("name"), one, _OLD_BFD) for one in config.mappings("bfd-profiles")]
    return made


def _old_advertisements(pool: Mapping) -> list[KubernetesObject]:
    made = []
    for one in pool.mappings("bgp-advertisements") or [Mapping(pool.place)]:
        made.append(_renamed("BGPAdvertisement", pool.text("name"), one, _OLD_ADVERTISEMENT))
        made[-1].spec["ipAddressPools"] = [pool.text("name")]
    return made


def _old_communities(communities: Mapping) -> KubernetesObject:
    spec = Mapping(communities.place)
    spec["communities"] = []
    for name in communities:
        entry = Mapping(communities.at(name))
        entry.update({"name": name, "value": communities.text(name)})
        spec["communities"].append(entry)
    return KubernetesObject("Community", "bgp-communities", spec, spec, communities.place)


_OLD_PEER = {
    "my-asn": "myASN", "peer-asn": "peerASN", "peer-address": "peerAddress", "peer-port": "peerPort",
    "hold-time": "holdTime", "keepalive-time": "keepaliveTime", "router-id": "routerID",
    "source-address": "sourceAddress",
    "password": "password",
    "node-selectors": "nodeSelectors", "bfd-profile": "bfdProfile", "ebgp-multihop": "ebgpMultiHop",
}  # fmt: skip
_OLD_ADVERTISEMENT = {
    "aggregation-length": "aggregationLength", "aggregation-length-v6": "aggregationLengthV6",
    "localpref": "localPref",
    "communities": "communities",
}  # fmt: skip
_OLD_BFD = {
    "receive-interval": "receiveInterval", "transmit-interval": "transmitInterval",
    "detect-multiplier": "detectMultiplier",
    "echo-mode": "echoMode", "passive-mode": "passiveMode", "minimum-ttl": "minimumTtl",
}  # fmt: skip


def _renamed(kind: str, name: str, old: Mapping, names: dict[str, str]) -> KubernetesObject:
    """An object with the keys of today; a key that has none keeps its name, and is told as unknown."""
    spec = Mapping(old.place)
    for key, value in old.items():
        if key == "name":
            continue
        new = names.get(key, key)
        spec[new] = [_selector(one) for one in value] if new == "nodeSelectors" and isinstance(value, list) else value
        spec.lines[new] = old.lines.get(key, old.place.line)
    return KubernetesObject(kind, name, spec, spec, old.place)


def _selector(old: object) -> object:
    if not isinstance(old, Mapping):
        return old
    made = Mapping(old.place)
    made["matchLabels"] = old.mapping("match-labels")
    made["matchExpressions"] = old.items_of("match-expressions")
    return made
