"""Records the messages of this folder anew, from FRR, BIRD and GoBGP in namespaces (root, and the daemons installed).

    python -m tests.message.vectors.record

What is expected of each message is what the daemon was configured to say, and not what any decoder made of it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from labs.daemons import Bird, Frr, Gobgp
from labs.gobgp_config import gobgp_neighbor, gobgp_router
from labs.namespace import Namespace, link
from labs.process import LabError
from tests.daemon.wire_peer import KEEPALIVE, OPEN, UPDATE, message, open_message, receive

FOLDER = Path(__file__).parent
FAMILIES = ((1, 1), (2, 1), (25, 70))
QUIET_S = 6.0
"""Longer than any of them waits before it sends what it has."""
ASN = 65203
LEAF_ASN = 65201
ROUTER_ID = "10.255.0.1"
IPV4, IPV6 = "10.0.1.2", "2001:db8:1::2"
RD, TARGET = "10.255.2.2:7", "65201:5001"

Expected = dict[str, Any]


def route(prefix: str, *, path: Sequence[int] = (LEAF_ASN,), origin: int = 0, **fields: Any) -> Expected:
    """What an UPDATE says that announces one prefix."""
    expected: Expected = {"origin": origin, "as_path": [[2, list(path)]] if path else [], "withdrawn": [], "nlri": []}
    if ":" in prefix:
        expected["mp_reach"] = {"family": "ipv6-unicast", "next_hop": [IPV6], "nlri": [{"prefix": prefix}]}
    else:
        expected |= {"next_hop": IPV4, "nlri": [{"prefix": prefix}]}
    return expected | fields


ROUTES = {
    "10.9.1.0/24": route("10.9.1.0/24"),
    "10.9.2.0/23": route("10.9.2.0/23", origin=1, med=70),
    "10.9.4.128/25": route("10.9.4.128/25", communities=["65201:7", "65201:65535"]),
    "10.9.5.1/32": route("10.9.5.1/32", large_communities=["65201:1:4294967295"]),
    "10.9.0.0/16": route("10.9.0.0/16", origin=2, med=4294967295),
    "2001:db8:9:1::/64": route("2001:db8:9:1::/64", communities=["65201:7"]),
    "2001:db8:9:2::/63": route("2001:db8:9:2::/63", med=70),
}
"""By prefix: what each daemon is told to announce to a neighbor of another AS."""


WITHDRAWN = "10.9.1.0/24"
"""What GoBGP takes back."""


def configured(prefix: str, fields: Expected, forms: dict[str, str]) -> list[str]:
    """The attributes of a route as one daemon's configuration writes them."""
    values = {"origin": ("igp", "egp", "incomplete")[fields["origin"]], "med": fields.get("med")}
    values |= {key: " ".join(fields.get(key, ())) for key in ("communities", "large_communities")}
    return [form.format(values[key]) for key, form in forms.items() if values[key] not in (None, "")]


def frr_config() -> str:
    forms = {
        "origin": "set origin {}",
        "med": "set metric {}",
        "communities": "set community {}",
        "large_communities": "set large-community {}",
    }
    maps, networks = [], []
    for number, (prefix, fields) in enumerate(ROUTES.items()):
        maps += [f"route-map r{number} permit 10", *configured(prefix, fields, forms), "exit"]
        networks.append((prefix, f"network {prefix} route-map r{number}"))
    families = []
    for family, has_colon in (("ipv4", False), ("ipv6", True)):
        chosen = [line for prefix, line in networks if (":" in prefix) is has_colon]
        families += [f"address-family {family} unicast", "neighbor 10.0.1.1 activate", *chosen, "exit-address-family"]
    router = [
        f"router bgp {LEAF_ASN}",
        f"bgp router-id {ROUTER_ID}",
        "no bgp ebgp-requires-policy",
        "no bgp network import-check",
        "bgp graceful-restart",
        f"neighbor 10.0.1.1 remote-as {ASN}",
        "neighbor 10.0.1.1 timers connect 1",
    ]
    return "\n".join([*maps, *router, *families, "exit"]) + "\n"


def bird_config() -> str:
    forms = {
        "origin": "bgp_origin = ORIGIN_{};",
        "med": "bgp_med = {};",
        "communities": "bgp_community.add({});",
        "large_communities": "bgp_large_community.add({});",
    }
    statics: dict[str, list[str]] = {"ipv4": [], "ipv6": []}
    for prefix, fields in ROUTES.items():
        words = []
        for word in configured(prefix, fields, forms):
            head, _, values = word.removesuffix(");").partition("(")
            each = [f"{head}(({one.replace(':', ', ')}));" for one in values.split()] if values else [word]
            words += [one.replace("_igp", "_IGP").replace("_egp", "_EGP").replace("_inc", "_INC") for one in each]
        words = [word.replace("omplete", "OMPLETE") for word in words]
        statics["ipv6" if ":" in prefix else "ipv4"].append(f"route {prefix} unreachable {{ {' '.join(words)} }};")
    protocols = "\n".join(f"protocol static {{ {family}; {' '.join(lines)} }}" for family, lines in statics.items())
    return f"""
router id {ROUTER_ID};
protocol device {{ }}
{protocols}
protocol bgp host {{
  local as {LEAF_ASN}; neighbor 10.0.1.1 as {ASN}; connect delay time 1; connect retry time 2;
  ipv4 {{ import all; export all; next hop self; }};
  ipv6 {{ import all; export all; next hop address {IPV6}; }};
}}
"""


def gobgp_config() -> str:
    families = dict.fromkeys(("ipv4-unicast", "ipv6-unicast", "l2vpn-evpn"), "")
    return gobgp_router(LEAF_ASN, ROUTER_ID) + gobgp_neighbor("10.0.1.1", ASN, families=families)


def add_to_gobgp(gobgp: Gobgp) -> None:
    forms = {"origin": "origin {}", "med": "med {}", "communities": "{}", "large_communities": "large-community {}"}
    for prefix, fields in ROUTES.items():
        words = " ".join(configured(prefix, fields, forms))
        if "communities" in fields:
            joined = " ".join(fields["communities"])
            words = words.replace(joined, f"community {joined.replace(' ', ',')}")
        family = ("-a", "ipv6") if ":" in prefix else ()
        gobgp.run("global", "rib", "add", *family, prefix, "nexthop", IPV6 if family else IPV4, *words.split())
    for words, _, _ in EVPN:
        gobgp.run("global", "rib", "add", "-a", "evpn", *words.split(), "rd", RD, "rt", TARGET)


NO_ESI = "00" * 10
EVPN = [
    (
        "macadv 02:00:00:00:00:99 10.64.2.1 etag 5 label 5001",
        "020000000099" + "20" + "0a400201",
        {"rt": 2, "esi": NO_ESI, "etag": 5, "mac": "02:00:00:00:00:99", "ip": "10.64.2.1", "label1": 5001},
    ),
    (
        "macadv 02:00:00:00:00:98 2001:db8:2::8 etag 0 label 16777215",
        "020000000098" + "80" + "20010db8000200000000000000000008",
        {"rt": 2, "esi": NO_ESI, "etag": 0, "mac": "02:00:00:00:00:98", "ip": "2001:db8:2::8", "label1": 16777215},
    ),
    (
        "multicast 10.0.0.9 etag 7",
        "00000007" + "20" + "0a000009",
        {"rt": 3, "etag": 7, "orig": "10.0.0.9"},
    ),
    (
        "prefix 10.64.3.0/24 gw 10.1.1.9 etag 0 label 5001",
        "18" + "0a400300" + "0a010109",
        {"rt": 5, "esi": NO_ESI, "etag": 0, "prefix": "10.64.3.0/24", "gw": "10.1.1.9", "label": 5001},
    ),
    (
        "prefix 2001:db8:3::/48 gw 2001:db8:101::9 etag 7 label 1",
        "30" + "20010db8000300000000000000000000",
        {"rt": 5, "esi": NO_ESI, "etag": 7, "prefix": "2001:db8:3::/48", "gw": "2001:db8:101::9", "label": 1},
    ),
]
"""What GoBGP is told to add; bytes by which the message is known; what it says."""


def nlri_of(prefix: str) -> bytes:
    network = ipaddress.ip_network(prefix)
    return bytes((network.prefixlen,)) + network.network_address.packed[: (network.prefixlen + 7) // 8]


class Source:
    """One daemon: how it is started, told to announce, and told to say more once it is quiet.

    `keeps_back`: an attribute that it does not send to another AS unless an export filter sets it.
    """

    def __init__(
        self,
        start: Callable[[Namespace], Any],
        *,
        announce: Callable[[Any], object] = lambda _: None,
        more: Callable[[Any], object],
        keeps_back: str = "",
    ) -> None:
        self.start = start
        self.announce = announce
        self.more = more
        self.keeps_back = keeps_back


def take_back(gobgp: Gobgp) -> None:
    gobgp.run("global", "rib", "del", WITHDRAWN)
    gobgp.run("global", "rib", "del", "-a", "evpn", *EVPN[2][0].split(), "rd", RD, "rt", TARGET)
    gobgp.run("neighbor", "10.0.1.1", "softresetin")


SOURCES = {
    "frr": Source(lambda leaf: Frr(leaf, frr_config()), more=lambda frr: frr.vtysh("clear bgp 10.0.1.1 soft in")),
    "bird": Source(
        lambda leaf: Bird(leaf, bird_config()), more=lambda bird: bird.birdc("reload in host"), keeps_back="med"
    ),
    "gobgp": Source(lambda leaf: Gobgp(leaf, gobgp_config()), announce=add_to_gobgp, more=take_back),
}


def heard(source: Source) -> Iterator[bytes]:
    """All messages that a daemon sends to a neighbor that announces nothing, to the end of its session."""
    with Namespace("host", prefix="v") as host, Namespace("leaf", prefix="v") as leaf:
        link(host, "eth0", leaf, "swp1")
        host.addresses("eth0", "10.0.1.1/24", "2001:db8:1::1/64")
        leaf.addresses("swp1", f"{IPV4}/24", f"{IPV6}/64")
        with host.entered():
            listener = socket.create_server(("10.0.1.1", 179))
        listener.settimeout(30)
        with contextlib.closing(listener), source.start(leaf) as daemon:
            connection, _ = listener.accept()
            connection.settimeout(QUIET_S)
            connection.sendall(open_message(ASN, hold_time_s=90, families=FAMILIES) + message(KEEPALIVE))
            source.announce(daemon)
            for act in (lambda: source.more(daemon), lambda: daemon.stop(), lambda: None):
                with contextlib.suppress(LabError):
                    while True:
                        yield message(*receive(connection))
                act()


def record() -> dict[str, list[dict[str, Any]]]:
    """The lines of all files."""
    files: dict[str, list[dict[str, Any]]] = {}
    for name, source in SOURCES.items():
        for number, raw in enumerate(dict.fromkeys(heard(source))):
            file, fields = told(raw)
            fields.get("expected", {}).pop(source.keeps_back, None)
            files.setdefault(file, []).append({"id": f"{name}/{number}", "hex": raw.hex(), **fields})
    known = files["updates_core.jsonl"]
    base = next(one["hex"] for one in known if one["expected"].get("med") == 70 and one["expected"]["nlri"])
    files["malformed.jsonl"] = [*malformed_updates(base), *malformed_frames(base), *malformed_opens(files)]
    return files


def told(raw: bytes) -> tuple[str, Expected]:
    """The file that a message belongs to, and what is expected of it."""
    if raw[18] == OPEN:
        return "opens.jsonl", {"decoded": open_fields(raw)}
    if raw[18] != UPDATE:
        return "misc_messages.jsonl", {}
    file, expected = update_fields(raw)
    return file, {"as4": True, "addpath": False, "expected": {**expected, "attr_headers": []}}


def update_fields(raw: bytes) -> tuple[str, Expected]:
    """What an UPDATE says: known by the prefix or endpoint in it."""
    nothing: Expected = {"withdrawn": [], "nlri": []}
    if int.from_bytes(raw[19:21]):
        assert nlri_of(WITHDRAWN) in raw
        return "updates_core.jsonl", {**nothing, "withdrawn": [{"prefix": WITHDRAWN}]}
    if len(raw) <= 30:
        return "updates_core.jsonl", nothing  # End-of-RIB (RFC 4724 section 2)
    for _, known_by, fields in EVPN:
        if bytes.fromhex(known_by) in raw:
            nlri = {"family": "l2vpn-evpn", "nlri": [{"rd": RD, **fields}]}
            if raw[24] == 15:
                return "updates_evpn.jsonl", {**nothing, "mp_unreach": nlri}
            said = {"origin": 2, "as_path": [[2, [LEAF_ASN]]]}
            return "updates_evpn.jsonl", {**nothing, **said, "mp_reach": {**nlri, "next_hop": [IPV4]}}
    prefix = next(prefix for prefix in ROUTES if nlri_of(prefix) in raw[23:])
    expected = ROUTES[prefix]
    link_local = raw.find(ipaddress.ip_address(IPV6).packed + b"\xfe\x80") + 16
    if link_local > 16:
        second = str(ipaddress.ip_address(raw[link_local : link_local + 16]))
        expected = {**expected, "mp_reach": {**expected["mp_reach"], "next_hop": [IPV6, second]}}
    return "updates_core.jsonl", expected


def open_fields(raw: bytes) -> Expected:
    """The fields of an OPEN (RFC 4271 section 4.2, RFC 5492)."""
    version, asn, hold_time_s, router_id, length = struct.unpack("!BHH4sB", raw[19:29])
    capabilities, parameters = [], raw[29 : 29 + length]
    while parameters:
        block, parameters = parameters[2 : 2 + parameters[1]], parameters[2 + parameters[1] :]
        while block:
            code, value, block = block[0], block[2 : 2 + block[1]], block[2 + block[1] :]
            capabilities.append({"code": code, **({"asn": int.from_bytes(value)} if code == 65 else {})})
    shown = {"router_id": socket.inet_ntoa(router_id), "caps": capabilities}
    return {"version": version, "my_as": asn, "hold": hold_time_s, **shown}


# One thing made wrong in a recorded message


def case(kind: str, name: str, raw: bytes, expected: str, rfc: str, notification: Any = None) -> dict[str, Any]:
    fields = {"kind": kind, "session": "ebgp", "as4": True, "afi": "ipv4", "expected": expected, "rfc": rfc}
    more = {"allowed_alternatives": [], "expected_notification": notification, "test_prefix": "10.9.2.0/23"}
    return {"id": f"own/{name}", "hex": raw.hex(), **fields, **more}


def rebuilt(attributes: bytes, nlri: bytes = nlri_of("10.9.2.0/23"), *, withdrawn: bytes = b"\0\0") -> bytes:
    return message(UPDATE, withdrawn + struct.pack("!H", len(attributes)) + attributes + nlri)


def malformed_updates(base: str) -> Iterator[dict[str, Any]]:
    raw = bytes.fromhex(base)
    block = raw[23 : 23 + int.from_bytes(raw[21:23])]
    parts: dict[int, bytes] = {}
    while block:
        size = 4 + int.from_bytes(block[2:4]) if block[0] & 0x10 else 3 + block[2]
        parts[block[1]], block = block[:size], block[size:]
    rest = "RFC 7606 section "
    path = struct.pack("!I", LEAF_ASN)
    for name, number, replacement, expected, rfc in (
        ("origin-3", 1, b"\x40\1\1\3", "withdraw", rest + "7.1"),
        ("origin-2-bytes", 1, b"\x40\1\2\0\0", "withdraw", rest + "7.1"),
        ("origin-optional", 1, b"\xc0\1\1\0", "withdraw", rest + "3 c"),
        ("origin-missing", 1, b"", "withdraw", rest + "3 d"),
        ("origin-twice", 1, parts[1] + b"\x40\1\1\2", "accept-first-only", rest + "3 g"),
        ("as-path-segment-type", 2, b"\x40\2\6\x09\1" + path, "withdraw", rest + "7.2"),
        ("as-path-segment-overrun", 2, b"\x40\2\6\2\2" + path, "withdraw", rest + "7.2"),
        ("as-path-empty-segment", 2, b"\x40\2\x08\2\1" + path + b"\2\0", "withdraw", rest + "7.2"),
        ("as-path-missing", 2, b"", "withdraw", rest + "3 d"),
        ("next-hop-5-bytes", 3, b"\x40\3\5\x0a\0\1\2\0", "withdraw", rest + "7.3"),
        ("next-hop-missing", 3, b"", "withdraw", rest + "3 d"),
        ("med-3-bytes", 4, b"\x80\4\3\0\0\7", "withdraw", rest + "7.4"),
        ("atomic-aggregate-1-byte", 4, b"\x40\6\1\0", "discard", rest + "7.6"),
        ("aggregator-5-bytes", 4, b"\xc0\7\5\0\0\1\2\3", "discard", rest + "7.7"),
        ("communities-3-bytes", 4, b"\xc0\x08\3\0\0\7", "withdraw", rest + "7.8"),
        ("large-communities-11-bytes", 4, b"\xc0\x20\x0b" + bytes(11), "withdraw", "RFC 8092 section 5"),
        ("unknown-optional", 4, b"\xc0\xc8\3\1\2\3", "accept", "RFC 4271 section 5"),
        ("length-overrun", 4, b"\x80\4\x14\0\0\0\7", "withdraw", rest + "4"),
    ):
        changed = b"".join({**parts, number: replacement}.values())
        yield case("update", name, rebuilt(changed), expected, rfc)
    good = b"".join(parts.values())
    yield case("update", "unknown-well-known", rebuilt(good + b"\x40\xc8\0"), "reset", "RFC 4271 section 6.3", [3, 2])
    for name, nlri in (("length-33", b"\x21\x0a\x09\2\0\0"), ("cut-off", b"\x17\x0a\x09")):
        yield case("update", f"nlri-{name}", rebuilt(good, nlri), "reset", "RFC 7606 section 5.3", [3, 10])
    overrun = rebuilt(good, withdrawn=b"\0\xff")
    yield case("update", "withdrawn-overrun", overrun, "reset", "RFC 7606 section 3 j", [3, 1])


def malformed_frames(base: str) -> Iterator[dict[str, Any]]:
    raw, rfc = bytes.fromhex(base), "RFC 4271 section 6.1"
    keepalive = message(KEEPALIVE)
    for name, frame, subcode in (
        ("marker", raw[:15] + b"\0" + raw[16:], 1),
        ("length-18", keepalive[:17] + b"\x12" + keepalive[18:], 2),
        ("length-4097", raw[:16] + b"\x10\1" + raw[18:], 2),
        ("keepalive-20-bytes", message(KEEPALIVE, b"\0"), 2),
        ("type-9", message(9), 3),
    ):
        yield case("raw-established", name, frame, "reset", rfc, [[1, subcode]])
    yield case("raw-established", "keepalive", keepalive, "accept", rfc)


def malformed_opens(files: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """OPENs of AS 65001, which the tests expect."""
    for one in files["opens.jsonl"]:
        raw = bytes.fromhex(one["hex"])
        ours = raw.replace(struct.pack("!I", LEAF_ASN), struct.pack("!I", 65001))
        ours = ours[:20] + struct.pack("!H", 65001) + ours[22:]
        name = one["id"].partition("/")[0]
        for what, changed, subcode in (
            ("good", ours, 0),
            ("version-3", ours[:19] + b"\3" + ours[20:], 1),
            ("other-as", raw, 2),
            ("router-id-0", ours[:24] + bytes(4) + ours[28:], 3),
            ("hold-time-2", ours[:22] + b"\0\2" + ours[24:], 6),
        ):
            verdict = "open-error" if subcode else "open-ok"
            refusal = [[2, subcode]] if subcode else None
            yield case("open", f"{name}-{what}", changed, verdict, "RFC 4271 section 6.2", refusal)


def main() -> None:
    for file, lines in record().items():
        (FOLDER / file).write_text("".join(json.dumps(one) + "\n" for one in lines))
        print(f"{file}: {len(lines)} messages")


if __name__ == "__main__":
    main()
