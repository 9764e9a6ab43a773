"""What a frr.conf says that is not simulated. All that is not known to be simulated, or to make no difference for who
reaches what, is told: nothing is left out without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bgpd.migrate.frr_peers import Peer, is_off
from bgpd.migrate.frr_text import MOST_LINES, FrrText, Line, Router


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OF_ROUTER = _words("""
    neighbor network aggregate-address timers maximum-paths distance advertise
    advertise-all-vni advertise-default-gw advertise-svi-ip rd
    route-target rt vni dup-addr-detection flooding autort write-quanta read-quanta coalesce-time
    """)
"""Statements of a router and its families by their first word. Leaves have no workloads of their own: nothing of types
2 and 3 is to be told by them."""
_OF_BGP = _words("""
    router-id log-neighbor-changes graceful-restart graceful-restart-disable long-lived-graceful-restart listen
    ebgp-requires-policy deterministic-med always-compare-med cluster-id suppress-fib-pending suppress-duplicates
    tcp-keepalive minimum-holdtime session-dscp disable-ebgp-connected-route-check route-reflector
    hard-administrative-reset fast-convergence rmap reject-as-sets client-to-client nopeerup-delay
    """)
"""Likewise what follows "bgp"."""
_OF_BESTPATH = _words("as-path compare-routerid med peer-type aigp")
_OF_NEIGHBORS = _words("""
    activate description peer-group remote-as interface bfd timers advertisement-interval route-reflector-client
    next-hop-self allowas-in as-override default-originate soft-reconfiguration send-community capability ebgp-multihop
    update-source ttl-security password shutdown passive disable-connected-check strict-capability-match
    enforce-first-as local-as
    v6only aigp sender-as-path-loop-detection solo enforce-multihop extended-optional-parameters
    """)
"""Commands of neighbors; filters are told where they are read."""
_FILTERS = ("route-map ", "prefix-list ", "filter-list ", "distribute-list ", "timers ")
_OF_ROUTES = ("connected", "static")
"""What is redistributed."""


def unread(text: FrrText, router: Router, settings: Mapping[str, Peer]) -> Iterator[str]:
    """Of a router's main table, and what stands beside it."""
    for lines in (router.lines, *router.families.values()):
        yield from (str(line) for line in lines if not _is_known(line))
    for peer in settings.values():
        for commands in (peer.general, *peer.families.values()):
            yield from (str(line) for name, line in commands.items() if not _is_of_neighbor(name, line))
    for other in text.routers:
        if other is router:
            continue
        for line in (one for lines in (other.lines, *other.families.values()) for one in lines):
            is_session = line.starts("neighbor") and {"remote-as", "interface", "peer-group"} & set(line.words)
            if is_session or line.starts("redistribute") or line.starts("aggregate-address"):
                yield f"{line} (of VRF {other.vrf})"
    protocols = [line for line in text.top if line.starts("router")]
    yield from (f"{line} (another protocol)" for line in protocols)
    last = min((line.place.line for line in protocols), default=MOST_LINES)  # what follows is of these
    yield from (str(line) for line in text.unknown if line.place.line < last)


def _is_known(line: Line) -> bool:
    first, second, third = line.word(0), line.word(1), line.word(2)
    if is_off(line):  # what is taken away is told where it would be
        return True
    if first == "redistribute":
        return second in _OF_ROUTES
    if first != "bgp":
        return first in _OF_ROUTER
    if second == "bestpath":
        return third in _OF_BESTPATH and "missing-as-worst" not in line.words
    if second == "default":
        return third.startswith(("ipv4", "ipv6", "l2vpn", "show-"))
    return second in _OF_BGP or (second, third) == ("network", "import-check")


def _is_of_neighbor(name: str, line: Line) -> bool:
    if is_off(line):
        return name != "send-community"
    return name in _OF_NEIGHBORS or name.startswith(_FILTERS)
